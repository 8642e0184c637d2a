"""Thresholds for a finished model and a budget, from unlabelled texts; nothing is trained."""
