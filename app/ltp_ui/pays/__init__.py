"""The page that says whether pruning pays."""
