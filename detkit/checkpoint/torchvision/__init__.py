"""torchvision's detectors, read as a checkpoint."""
