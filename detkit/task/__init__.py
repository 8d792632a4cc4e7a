"""What models are for: detection, and whatever else is trained, measured and shown by the same commands."""
