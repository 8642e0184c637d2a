"""Evaluating a checkpoint on a split, at several strengths of pruning, and storing the result."""
