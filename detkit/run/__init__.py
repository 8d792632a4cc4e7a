"""Run folders: locking, recording, resuming."""
