"""Offline packs: made, updated, verified, and what was left open settled."""
