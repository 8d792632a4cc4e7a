"""Configs: composing, checking, instantiating, explaining what was mistyped."""
