"""Training and evaluation: one loop, read top to bottom in train.py, and the parts it names."""
