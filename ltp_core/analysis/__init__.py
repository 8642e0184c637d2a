"""What stored runs say: points, bands, trajectories, intervals. Nothing here runs a model."""
