"""Decode any image file to upright 8-bit RGB."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from detkit.core.errors import UserError
from detkit.core.structures import Size


def _decoders() -> tuple[str, ...]:
    """The formats that this Pillow decodes itself: no stubs for other programs, no PostScript, which is a program."""
    Image.init()
    ours = {
        name
        for name, (opener, _) in Image.OPEN.items()
        if not (isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile))
    }
    return tuple(sorted(ours - {"EPS", "MPEG"}))


FORMATS = _decoders()
IMAGE_SUFFIXES = frozenset(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in FORMATS or name == "MPO"  # which the JPEG decoder reads: a phone's JPEG with a second picture
)
_ORIENTATION = 0x0112  # the EXIF tag
MEGAPIXELS = "DETKIT_MAX_MEGAPIXELS"  # in the environment, so that it reaches every verb, worker and process
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # said by `open_picture` where it matters


def is_picture(path: str | Path) -> bool:
    """Whether a file is one of pictures, by its name: the suffixes of what Pillow decodes."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def open_picture(path: str | Path) -> Image.Image:
    """Open a picture with Pillow, by the formats and the limit of this module, without decoding it.

    A picture of more than 179 megapixels is refused, as Pillow does: a few hundred bytes may claim any size. The
    environment variable DETKIT_MAX_MEGAPIXELS sets another limit, 0 none. Raises UserError for that, and whatever
    Pillow raises for a file that it cannot open.
    """
    setting = os.environ.get(MEGAPIXELS)
    if setting is not None:
        try:
            limit = float(setting)
        except ValueError:
            limit = -1.0
        if not 0 <= limit < math.inf:
            raise UserError(f"{MEGAPIXELS}={setting}: a number of megapixels, or 0 for no limit")
        Image.MAX_IMAGE_PIXELS = math.ceil(limit * 1e6 / 2) or None  # Pillow refuses what has more than twice as many
    try:
        return Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        size = f"{int(pixels[0]) / 1e6:.0f} megapixels" if pixels else "too many pixels"
        limit = round(2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6, 1)
        raise UserError(
            f"cannot read image {path}: it claims {size}, above the limit of {limit:g}; if the file can be trusted, "
            f"set the environment variable {MEGAPIXELS} (0: no limit)"
        ) from error


def read_image(path: str | Path, *, upright: bool = True, reduction: int = 1) -> NDArray[np.uint8]:
    """The picture at `path` as uint8 [H, W, 3] RGB, contiguous; raises UserError naming the file.

    upright: turn it as its EXIF orientation says, which is how every viewer shows it; TIFF files always are.
    reduction: 1, 2, 4 or 8, by which the sides of a JPEG are divided, rounded up, in less time; others stay whole.
    """
    try:
        with open_picture(path) as image:
            if reduction > 1:
                width, height = image.size
                image.draft(None, (max(width // reduction, 1), max(height // reduction, 1)))
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image)
    except FileNotFoundError as error:
        raise UserError(f"no such image: {path}") from error
    except UserError:
        raise
    except Exception as error:  # on broken bytes a decoder may raise anything
        raise UserError(f"cannot read image {path}: {error}") from error


def read_frames(path: str | Path) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
    """(number from 0, picture as of `read_image`) of each in a file: of an animation, of a TIFF with several pages.

    The number of the only picture is None; so is that of a file whose others are not of its own kind: the previews of
    a phone's MPO, the layers of a PSD. Raises UserError naming the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            count = 1 if image.format in ("MPO", "PSD") else int(getattr(image, "n_frames", 1))
    except Exception:  # said by who reads it
        count = 1
    if count == 1:
        yield None, read_image(path)
        return
    with Image.open(path, formats=FORMATS) as image:
        for index in range(count):
            try:
                image.seek(index)
                frame = to_rgb(ImageOps.exif_transpose(image))
            except Exception as error:  # on broken bytes a decoder may raise anything
                raise UserError(f"cannot read picture {index} of {count} in {path}: {error}") from error
            yield index, frame


def read_image_size(path: str | Path, *, upright: bool = True) -> Size:
    """(height, width) from the header of the picture at `path`; raises UserError naming the file."""
    try:
        with open_picture(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                # Pillow turns these itself, some versions before and some after the size is asked for
                width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
            else:
                turned = turned and upright
    except FileNotFoundError as error:
        raise UserError(f"no such image: {path}") from error
    except UserError:
        raise
    except Exception as error:  # on broken bytes a decoder may raise anything
        raise UserError(f"cannot read image {path}: {error}") from error
    return (width, height) if turned else (height, width)


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A decoded picture of any mode as uint8 [H, W, 3] RGB.

    Transparent pixels are laid on white, the page such pictures are made for: the colour stored under them is
    arbitrary. Samples of more than 8 bits are scaled by the range of their type, not by their content, so that a
    value means the same grey in every picture: 0..65535 for integers (0..255 where no sample is larger), 0..1 for
    floats (0..255 where a sample is larger than 1); what lies outside is clipped.
    """
    if image.mode == "RGB":
        rgb = image
    elif image.mode[0] in "IF":  # I, I;16, I;16B, F: one channel of more than 8 bits
        samples = np.asarray(image, np.float32)
        brightest = float(samples.max(initial=0))
        if image.mode == "F":
            scale = 1.0 if brightest > 1 else 255.0
        else:
            scale = 1.0 if image.mode == "I" and brightest <= 255 else 1 / 257
        grey = np.clip(np.nan_to_num(samples) * scale, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, (255, 255, 255))
        rgb.paste(layer, mask=layer.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    return np.array(rgb, np.uint8)
