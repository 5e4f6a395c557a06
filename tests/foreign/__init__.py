"""Our resources, read by programs that others wrote."""
