"""Augmentation of images with their boxes."""
