"""Inference: a checkpoint opened, placed on a device, run on images or a split."""
