"""Proposers: the candidate regions of an image."""
