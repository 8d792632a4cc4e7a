"""Inference: opening a checkpoint, placing a model, running it on images or a split."""
