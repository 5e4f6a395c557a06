"""Whether what is stored is what the entries give, and repair."""
