"""Comparison of several models: trained, evaluated and timed side by side."""
