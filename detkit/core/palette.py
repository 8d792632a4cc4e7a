"""Assign each class label one colour in every picture, plot and page."""

from __future__ import annotations

import math

RGB = tuple[int, int, int]

# A golden-angle step leaves every prefix of the sequence spread over the hue circle; the lightness cycle keeps
# neighbours apart once hues come close to each other.
HUE_STEP = 360 * (1 - 1 / 1.618033988749895)
LIGHTNESS_AND_CHROMA = ((0.72, 0.17), (0.58, 0.17), (0.86, 0.13))


def class_colour(label: int) -> RGB:
    """The sRGB colour (0..255) of class `label` >= 0."""
    lightness, chroma = LIGHTNESS_AND_CHROMA[label % len(LIGHTNESS_AND_CHROMA)]
    return oklch_to_srgb(lightness, chroma, (25 + label * HUE_STEP) % 360)


def text_colour(background: RGB) -> RGB:
    """Black or white, whichever stands out more on `background` (WCAG contrast)."""
    red, green, blue = (_linear(channel / 255) for channel in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)  # where both contrasts are equal


def oklch_to_srgb(lightness: float, chroma: float, hue: float) -> RGB:
    """OKLCH (lightness 0..1, chroma, hue in degrees) as sRGB 0..255; out-of-gamut channels are clipped.

    Source: Björn Ottosson, "A perceptual color space for image processing" (2020).
    """
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return _byte(red), _byte(green), _byte(blue)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _byte(linear: float) -> int:
    linear = min(max(linear, 0.0), 1.0)
    channel = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * channel)
