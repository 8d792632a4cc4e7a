"""Checkpoints: what they hold, how detkit's own are written and read, and the door to those of others."""
