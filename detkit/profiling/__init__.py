"""Profiling: time per stage, memory, FLOPs."""
