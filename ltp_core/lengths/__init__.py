"""Lengths of inputs: from texts to counts, their statistics, and training against evaluation."""
