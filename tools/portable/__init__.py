"""Documents' proofs in the forms that others read: handed out, and checked."""
