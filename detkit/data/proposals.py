"""The proposals of a set of images, packed into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.annotations import PackedStrings
from detkit.errors import UserError

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
    parameters: Mapping[str, Any]
    source: str

    @classmethod
    def pack(
        cls,
        image_ids: Sequence[str],
        boxes: Sequence[NDArray[Any]],
        seconds: Sequence[float] | None = None,
        *,
        method: str,
        parameters: Mapping[str, Any] | None = None,
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
        """The proposals of `image_ids`, in that order; raises UserError that lists the images there are none of."""
        places = {image_id: index for index, image_id in enumerate(self.image_ids)}
        missing = [image_id for image_id in image_ids if image_id not in places]
        if missing:
            more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
            raise UserError(
                f"{self.source} has no proposals for {len(missing)} of {len(image_ids)} images: "
                f"{', '.join(missing[:MOST_NAMED])}{more}; its ids look like {', '.join(list(places)[:3]) or 'nothing'}"
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
