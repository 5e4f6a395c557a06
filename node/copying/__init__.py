"""Blocks from elsewhere, checked before they are written: catch-up, mirrors, backups."""
