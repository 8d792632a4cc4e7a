"""Darknet networks: a `.cfg` and its `.weights` become a checkpoint of detkit, and such a checkpoint becomes them."""
