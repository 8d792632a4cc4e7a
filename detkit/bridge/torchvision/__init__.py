"""Detectors of torchvision, their weights and those trained with them, as detectors of detkit."""
