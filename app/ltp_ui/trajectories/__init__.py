"""Lengths through the layers, a tab of the Length robustness page."""
