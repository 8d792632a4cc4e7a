"""Weights of other projects, brought in."""
