"""What both ends of a TLS connection need: certificate files, checked, and why a connection fails."""
