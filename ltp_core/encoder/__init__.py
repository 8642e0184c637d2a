"""The encoder: model, loading, saving."""
