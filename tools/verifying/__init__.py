"""The verifying office's own proof: a signed journal of what it has checked, and what became of that."""
