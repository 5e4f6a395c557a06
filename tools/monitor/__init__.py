"""The agency's monitor: what was logged in its name, against what it did itself."""
