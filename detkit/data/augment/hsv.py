"""Jitter hue, saturation and value as SSD and Darknet do."""

from __future__ import annotations

import math

import cv2
import numpy as np
from albumentations import ImageOnlyTransform

from detkit.core.errors import UserError
from detkit.data.augment.crop_boxes import Pixels


class HSVJitter(ImageOnlyTransform):
    """Hue turned by up to `hue` of a circle to either side, saturation and value multiplied by factors of a range.

    saturation, value: (low, high) of the factor, drawn uniformly. inverse: low is 1 / high; a factor is drawn from
    (1, high), and every other time its inverse is taken, so that as many pictures become paler as stronger (Darknet).
    """

    def __init__(
        self,
        hue: float = 0.0,
        saturation: tuple[float, float] = (1.0, 1.0),
        value: tuple[float, float] = (1.0, 1.0),
        inverse: bool = False,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        for name, (low, high) in {"saturation": saturation, "value": value}.items():
            if not 0 <= low <= high or (inverse and not math.isclose(low * high, 1)):
                bounds = "1 / high, high" if inverse else "0 <= low <= high"
                raise UserError(f"{name}={[low, high]}: a range of factors, {bounds}")
        self.hue, self.saturation, self.value, self.inverse = hue, saturation, value, inverse

    def get_params(self) -> dict[str, object]:
        turn = self.py_random.uniform(-self.hue, self.hue) * 360
        return {"turn": turn, "factors": (self._factor(self.saturation), self._factor(self.value))}

    def _factor(self, bounds: tuple[float, float]) -> float:
        if not self.inverse:
            return self.py_random.uniform(*bounds)
        factor = self.py_random.uniform(1, bounds[1])
        return factor if self.py_random.random() < 0.5 else 1 / factor

    def apply(self, img: Pixels, turn: float, factors: tuple[float, float], **_: object) -> Pixels:
        """uint8 [H, W, 3] RGB to the same."""
        hsv = cv2.cvtColor(img.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)  # degrees, 0..1, 0..1
        hsv[..., 0] = (hsv[..., 0] + turn) % 360
        hsv[..., 1:] *= np.array(factors, np.float32)
        return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).round().clip(0, 255).astype(np.uint8)
