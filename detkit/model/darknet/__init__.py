"""Networks that a Darknet `.cfg` describes, layer by layer, with Darknet's own arithmetic."""
