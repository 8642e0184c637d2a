"""Training: the visible loop, its losses, and what makes a run resumable."""
