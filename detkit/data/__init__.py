"""Data sets: reading, checking, augmenting, batching."""
