"""Tests of TLS: certificate files, and why connections fail."""
