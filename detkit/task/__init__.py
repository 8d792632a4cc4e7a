"""Tasks: what models are for, and what the commands ask of it."""
