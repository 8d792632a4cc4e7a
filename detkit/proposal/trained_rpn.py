"""Propose regions by a trained two-stage detector: half of the paper's alternating training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.checkpoint.store import find_checkpoint
from detkit.infer.loaded_detector import LoadedDetector, load


@dataclass(frozen=True, kw_only=True)
class TrainedRPN:
    """The proposals of the detector in `checkpoint` (a file or a run folder), the best `max_boxes`.

    They may be more than the detector itself looks at in a test (300 in the paper, which hands on 2,000): as many enter
    suppression as in its training. None: as many as it looks at.
    Raises UserError where the checkpoint is none, and, when asked, where its detector proposes nothing.
    """

    checkpoint: str
    max_boxes: int | None = None

    @cached_property
    def _detector(self) -> LoadedDetector:
        loaded = load(self.checkpoint)
        proposer = getattr(loaded.detector, "proposer", None)
        if self.max_boxes is not None and proposer is not None and hasattr(proposer, "post_nms"):
            proposer.pre_nms = (proposer.pre_nms[0], max(proposer.pre_nms))
            proposer.post_nms = (proposer.post_nms[0], self.max_boxes)
        return loaded

    def __getstate__(self) -> dict[str, str | int | None]:  # a worker loads its own
        return {"checkpoint": self.checkpoint, "max_boxes": self.max_boxes}

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._detector.propose(image)[: self.max_boxes].numpy()

    def parameters(self) -> dict[str, object]:
        """All that the boxes of an image depend on, as plain data."""
        content = Path(find_checkpoint(self.checkpoint)).read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        known: dict[str, object] = {"method": "rpn", "checkpoint": digest, "max_boxes": self.max_boxes}
        return known if self.max_boxes is None else known | {"pre_nms": "as in training"}
