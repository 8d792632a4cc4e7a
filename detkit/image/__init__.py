"""Images: read, found, turned into a model's input."""
