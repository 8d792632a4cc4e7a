"""Configs: from what was typed to values that are checked and parts that are built."""
