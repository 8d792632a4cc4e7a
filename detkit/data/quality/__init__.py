"""Data quality: finding, reporting and repairing faults."""
