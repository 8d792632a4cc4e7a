"""Pooling of regions."""
