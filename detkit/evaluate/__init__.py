"""Evaluation of a model on a split, and its report."""
