"""How good detections are: average precision, recall, confusion; records in, numbers out."""
