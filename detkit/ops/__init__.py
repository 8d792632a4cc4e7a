"""Pure functions on tensors: no modules, no configs, no files."""
