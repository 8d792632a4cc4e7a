"""Images and videos: finding, reading, resizing."""
