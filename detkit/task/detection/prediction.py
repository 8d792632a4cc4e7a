"""Define what `predict` of a loaded detector returns."""

from __future__ import annotations

from typing import Any

from PIL import Image

from detkit.core.structures import Detections
from detkit.view.draw import draw_detections


class Prediction(Detections):
    """Detections, with class names, that can be drawn."""

    def plot(self, image: Any) -> Image.Image:
        """Draw these detections on `image` (path, array HWC uint8 RGB, or PIL image); a new picture."""
        return draw_detections(image, self)
