"""Foundations: shared structures, errors, atomic files, processes."""

__version__ = "0.1.0"
