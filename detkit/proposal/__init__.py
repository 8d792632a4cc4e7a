"""Regions that a two-stage detector is given from outside: selective search, files of proposals, their measure."""
