"""Cells to classes and boxes: the heads of one-stage detectors."""
