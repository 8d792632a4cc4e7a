"""Detectors, assembled from a backbone, a neck, a source of proposals and heads."""
