"""An agency's register: one sealed database of all that it did."""
