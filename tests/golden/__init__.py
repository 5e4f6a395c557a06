"""Receipts, trust files, codes and proofs of the past: bytes that have to verify for ever."""
