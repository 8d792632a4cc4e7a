"""The command line: `detkit VERB key=value`."""
