"""Envelopes between agencies: beside the blocks, never in them."""
