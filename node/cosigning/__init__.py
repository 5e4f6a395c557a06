"""Witnesses: what they cosign, when that makes a checkpoint public, and how this node asks them."""
