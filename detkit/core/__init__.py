"""Foundations: shared structures, errors, atomic files, processes."""
