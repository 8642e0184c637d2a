"""The Runs page: what is stored, and everything about one run."""
