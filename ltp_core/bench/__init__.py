"""Measured speed, beside its controls; `settings`, `catalogue` and `results` need no torch."""
