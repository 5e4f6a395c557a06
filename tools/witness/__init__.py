"""A witness: a program that cosigns what a log says of itself, as long as it never takes anything back."""
