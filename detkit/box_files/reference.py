"""Hold ground truth read from files, and find its images and classes by the names that prediction files use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detkit.core.errors import UserError
from detkit.core.suggest import among
from detkit.image.picture_finder import list_pictures
from detkit.image.read import FORMATS
from detkit.metric.records import FILLED_IN, GroundTruth


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Ground truth read from files, and the names of its images and classes in predictions.

    names: of the image files, with folder and suffix where known. image_of: the index of each image by COCO id, as
    text. category_of: the label of each COCO category id. Both are empty where the files have no ids, and `classes`
    then holds those that occur. sizes: float64 [I, 2] width and height of each image, NaN where unknown. notes: what a
    reader of the numbers should know of the files.
    """

    ground_truth: GroundTruth
    classes: list[str]
    names: ImageNames
    image_of: Mapping[str, int] = field(default_factory=dict)
    category_of: Mapping[str, int] = field(default_factory=dict)
    sizes: NDArray[np.float64] = FILLED_IN
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.sizes is None:
            object.__setattr__(self, "sizes", np.full((self.ground_truth.num_images, 2), np.nan))


class ImageNames:
    """Find an image by its file name: whole; without suffix; without folder if only one image has that name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.replace("\\", "/").removeprefix("./") for name in names]
        self._of: list[dict[str, list[int]]] = [{}, {}, {}]
        for index, name in enumerate(self.names):
            for known, key in zip(self._of, _keys(name), strict=True):
                known.setdefault(key, []).append(index)

    def find(self, name: str, path: Path, key: str = "file") -> int:
        """Return the index of the image; raises UserError if there is none, or if there are several."""
        name = name.replace("\\", "/").removeprefix("./")
        # a text file is called after its image with or without suffix: "a.jpg.txt" or "a.txt", also "v1.2.txt"
        whole, bare, stem = _keys(name)
        tries = [(0, whole), (1, whole), (1, bare), (2, PurePosixPath(whole).name), (2, stem)]
        for known, text in tries:
            found = self._of[known].get(text, [])
            if len(found) == 1:
                return found[0]
            if found:
                several = ", ".join(self.names[index] for index in found[:2])
                raise UserError(f"{path}: {key} {name} could be any of {several}; name it with its folder and suffix")
        hint = among(name, self.names) if len(self.names) <= 100 else f" (it has {len(self.names)})"
        raise UserError(f"{path}: {key} {name} is not in the ground truth{hint}")


def _keys(name: str) -> tuple[str, str, str]:
    path = PurePosixPath(name)
    suffix = path.suffix if path.suffix[1:2].isalpha() else ""
    bare = name.removesuffix(suffix) if suffix else name
    return name, bare, PurePosixPath(bare).name


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each name."""
    return {name: index for index, name in enumerate(names)}


def with_other_classes(classes: Sequence[str], named: Collection[str], path: Path) -> list[str]:
    """Append to `classes` of the ground truth what else predictions name.

    Raises UserError if they name none of those of the ground truth.
    """
    if named and classes and not set(named) & set(classes):
        raise UserError(
            f"{path} has the classes {', '.join(sorted(named)[:5])}, and none of those of the ground truth: "
            f"{', '.join(classes[:5])}"
        )
    return [*classes, *sorted(set(named) - set(classes))]


def find_indices(names: Iterable[object], index_of: Mapping[str, int], key: str, path: Path) -> NDArray[np.int64]:
    """Return the index of each of `names`, int64; raises UserError for the first that is not in `index_of`."""
    texts = [str(name) for name in names]
    unknown = sorted({text for text in texts if text not in index_of})
    if unknown:
        known = list(index_of)
        hint = among(unknown[0], known) if len(known) <= 100 else f" (it has {len(known)})"
        raise UserError(f"{path}: {key} {unknown[0]} is not in the ground truth{hint}")
    return np.array([index_of[text] for text in texts], np.int64)


def picture_sizes(names: ImageNames, folder: Path) -> NDArray[np.float64]:
    """Read width and height of the picture of each image from the files below `folder`: float64 [I, 2].

    Raises UserError where the folder or the picture of an image is missing, or cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"images={folder} is no folder")
    paths = list_pictures(folder).paths
    pictures = ImageNames([path.relative_to(folder).as_posix() for path in paths])
    sizes = np.full((len(names.names), 2), np.nan)
    for index, name in enumerate(names.names):
        try:
            path = paths[pictures.find(name, folder)]
        except UserError as error:
            raise UserError(f"images={folder} has not one picture of image {name}") from error
        try:
            with Image.open(path, formats=FORMATS) as image:
                turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
                sizes[index] = image.size[::-1] if turned else image.size
        except Exception as error:  # on broken bytes a decoder may raise anything
            raise UserError(f"cannot read image {path}: {error}") from error
    return sizes
