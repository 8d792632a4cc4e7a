"""Read weights of torchvision's detectors as checkpoints."""
