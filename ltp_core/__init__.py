"""Token pruning of transformer encoders: train it, run it with the tokens removed, measure it."""
