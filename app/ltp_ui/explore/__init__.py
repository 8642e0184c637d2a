"""The Explore page; its controls and its answer are also those of other pages that ask a live model."""
