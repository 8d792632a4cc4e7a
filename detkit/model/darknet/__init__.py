"""Networks of a Darknet `.cfg`, layer by layer, with Darknet's own arithmetic."""
