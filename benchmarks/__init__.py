"""Measured claims: ``python -m benchmarks`` runs them beside their baselines."""
