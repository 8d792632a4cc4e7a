"""What every room stands on: structures, errors, files that are whole, processes."""
