"""Where the candidate regions of an image come from."""
