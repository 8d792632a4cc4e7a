"""Regions to classes and boxes."""
