"""The page that trains on a file of one's own, and chooses thresholds without training."""
