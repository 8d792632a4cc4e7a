"""Detection metrics: average precision, recall, confusion; records in, numbers out."""
