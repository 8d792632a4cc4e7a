"""Store the proposals of a set of images, packed in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.data.annotations import PackedStrings

MOST_NAMED = 10  # ids in a message


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The P boxes proposed for N images.

    image_ids: one per image, unique. offsets: int64 [N+1]; those of image i are offsets[i]:offsets[i+1] of `boxes`,
    best first. boxes: float32 [P, 4] xyxy in pixels of the file, 0-based, half-open. seconds: float64 [N], what they
    took for each image; NaN where nobody knows. method, parameters: how they were made, as plain data.
    source: where they come from, for messages.
    """

    image_ids: PackedStrings
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    seconds: NDArray[np.float64]
    method: str
    parameters: Mapping[str, object]
    source: str

    @classmethod
    def pack(
        cls,
        image_ids: Sequence[str],
        boxes: Sequence[NDArray[np.floating]],
        seconds: Sequence[float] | None = None,
        *,
        method: str,
        parameters: Mapping[str, object] | None = None,
        source: str,
    ) -> Proposals:
        """From one array of boxes [P, 4] for each image, best first."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(one) for one in boxes], dtype=np.int64)])
        return cls(
            image_ids=PackedStrings.from_list(image_ids),
            offsets=offsets,
            boxes=np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32),
            seconds=np.full(len(boxes), np.nan) if seconds is None else np.asarray(seconds, np.float64),
            method=method,
            parameters=parameters or {},
            source=source,
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, index: int) -> NDArray[np.float32]:
        """float32 [P, 4]: a view of the boxes of image `index`."""
        return self.boxes[self.offsets[index] : self.offsets[index + 1]]

    def select(self, image_ids: Sequence[str]) -> Proposals:
        """The proposals of `image_ids`, in that order; raises UserError that lists the images there are none of.

        Where an id is not there, what stands behind its last slash is compared: VOC2007/000001 is 000001 in files that
        know one folder alone. Raises UserError where that could be several images.
        """
        places = self._places(image_ids)
        missing = [image_id for image_id in image_ids if image_id not in places]
        if missing:
            known = ", ".join(list(self.image_ids)[:3]) or "nothing"
            more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
            raise UserError(
                f"{self.source} has no proposals for {len(missing)} of {len(image_ids)} images: "
                f"{', '.join(missing[:MOST_NAMED])}{more}; its ids look like {known}"
                " - make the file for this split, or choose the split it was made for"
            )
        chosen = [places[image_id] for image_id in image_ids]
        return Proposals.pack(
            image_ids,
            [self.of(index) for index in chosen],
            self.seconds[chosen].tolist(),
            method=self.method,
            parameters=self.parameters,
            source=self.source,
        )

    def _places(self, image_ids: Sequence[str]) -> dict[str, int]:
        """Where the boxes of each image are, for those that are there; raises UserError as `select` does."""
        own = {image_id: index for index, image_id in enumerate(self.image_ids)}
        places = {image_id: own[image_id] for image_id in image_ids if image_id in own}
        asked, known = (_by_name(ids) for ids in ((one for one in image_ids if one not in own), own))
        for name, wanted in asked.items():
            found = known.get(name, [])
            if len(found) == 1 and len(wanted) == 1 and found[0] not in places:
                places[wanted[0]] = own[found[0]]
            elif found:
                raise UserError(
                    f"{self.source} has proposals for {', '.join(found[:MOST_NAMED])}, and which of them are those of "
                    f"{', '.join(wanted[:MOST_NAMED])} is open: give its images the ids of the data set, with folder"
                )
        return places


def _by_name(image_ids: Iterable[str]) -> dict[str, list[str]]:
    """The ids by what stands behind their last slash."""
    found: dict[str, list[str]] = {}
    for image_id in image_ids:
        found.setdefault(image_id.rpartition("/")[2], []).append(image_id)
    return found
