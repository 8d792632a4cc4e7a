"""State the version of detkit."""

__version__ = "0.1.0"
