"""Dense heads of one-stage detectors: feature maps to classes and boxes."""
