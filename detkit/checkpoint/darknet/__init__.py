"""Darknet's .cfg and .weights, read as a checkpoint."""
