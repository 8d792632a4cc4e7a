"""Read Darknet's .cfg and .weights files as checkpoints."""
