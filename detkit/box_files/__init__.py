"""Files of boxes by other programs, as ground truth and predictions."""
