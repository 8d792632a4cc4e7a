"""External region proposals: selective search, proposal files, a trained RPN; their recall."""
