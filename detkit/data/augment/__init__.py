"""Augmentation of images and their boxes."""
