"""Several models, trained, measured and timed side by side."""
