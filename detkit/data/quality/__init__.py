"""Faults of data sets: found, told, repaired."""
