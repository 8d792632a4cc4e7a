"""Visualisation: drawings, plots, HTML pages."""
