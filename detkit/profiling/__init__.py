"""Time, memory and FLOPs."""
