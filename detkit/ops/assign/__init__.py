"""Assignment of objects to anchors, cells and proposals."""
