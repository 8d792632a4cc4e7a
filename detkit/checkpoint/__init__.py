"""Checkpoints: content, detkit's own file format, building a detector from one, readers of other projects' files."""
