from __future__ import annotations

import numpy as np
import pytest

from detkit.core.errors import UserError
from detkit.data.annotation_builder import AnnotationBuilder, RawObject
from detkit.data.quality.repair import box_faults, repair, repair_boxes

NAN = float("nan")
BOXES = np.array(
    [
        [0, 0, 60, 40],  # sound, touching every border
        [5, 5, 5, 9],  # no width
        [9, 5, 5, 9],  # turned: x1 > x2
        [-1, 0, 10, 10],  # beyond the left
        [50, 30, 61, 41],  # beyond right and bottom
        [70, 5, 90, 9],  # wholly beyond
        [NAN, 0, 5, 5],
        [0, 0, np.inf, 5],
    ],
    np.float32,
)
SIZE = (40, 60)


def test_each_box_has_at_most_one_fault() -> None:
    faults = box_faults(BOXES, SIZE)
    assert {kind: np.flatnonzero(mask).tolist() for kind, mask in faults.items()} == {
        "not finite box": [6, 7],
        "inverted box": [2],
        "zero-size box": [1],
        "one-pixel box": [],
        "out-of-range box": [3, 4, 5],
    }


def test_clip_keeps_what_has_an_inside() -> None:
    cut, keep = repair_boxes(BOXES, SIZE, "clip")
    assert np.flatnonzero(keep).tolist() == [0, 2, 3, 4]
    assert cut[keep].tolist() == [[0, 0, 60, 40], [5, 5, 9, 9], [0, 0, 10, 10], [50, 30, 60, 40]]
    assert cut.dtype == np.float32


def test_drop_keeps_what_is_sound() -> None:
    _, keep = repair_boxes(BOXES, SIZE, "drop")
    assert np.flatnonzero(keep).tolist() == [0]


def test_an_unknown_size_has_no_beyond() -> None:
    cut, keep = repair_boxes(BOXES, (0, 0), "clip")
    assert np.flatnonzero(keep).tolist() == [0, 2, 3, 4, 5]
    assert cut[5].tolist() == [70, 5, 90, 9]


def test_one_size_per_box() -> None:
    sizes = np.array([SIZE] * 4 + [(100, 100)] * 4)
    assert np.flatnonzero(box_faults(BOXES, sizes)["out-of-range box"]).tolist() == [3]


def test_rounding_is_no_fault_but_a_sliver_left_by_the_cut_goes() -> None:
    boxes = np.array([[-0.4, 0, 60.4, 40], [59.5, 5, 70, 9], [20, 5, 20.4, 9]], np.float32)
    faults = box_faults(boxes, SIZE)
    assert np.flatnonzero(faults["out-of-range box"]).tolist() == [1]
    cut, keep = repair_boxes(boxes, SIZE, "clip")
    assert cut[keep].tolist() == [[0, 0, 60, 40], [20, 5, np.float32(20.4), 9]]


def test_a_click_is_named_and_counted_but_not_trained_on_under_drop() -> None:
    boxes = np.array([[5, 5, 6, 6], [5, 5, 5.5, 30], [5, 5, 7, 7]], np.float32)
    assert np.flatnonzero(box_faults(boxes, SIZE)["one-pixel box"]).tolist() == [0, 1]
    assert repair_boxes(boxes, SIZE, "clip")[1].all()
    assert np.flatnonzero(repair_boxes(boxes, SIZE, "drop")[1]).tolist() == [2]


def test_duplicates_are_of_one_class_and_place() -> None:
    boxes = np.array([[5, 5, 25, 25], [5, 5, 25, 25], [5, 5, 25, 25.1], [5, 5, 25, 26], [25, 25, 5, 5]], np.float32)
    labels = np.array([0, 1, 0, 0, 1])
    assert np.flatnonzero(box_faults(boxes, SIZE, labels)["duplicate box"]).tolist() == [2]
    for policy, kept in (("clip", [0, 1, 3]), ("drop", [0, 1, 3])):  # box 4, put in order, repeats box 1
        _, keep = repair_boxes(boxes, SIZE, policy, labels)
        assert np.flatnonzero(keep).tolist() == kept
    assert repair_boxes(boxes, SIZE, "clip")[1].all()  # without labels all stay
    assert not np.any(list(box_faults(np.full((2, 4), np.nan), SIZE, labels[:2]).values())[1:])


def test_no_boxes() -> None:
    for policy in ("clip", "drop"):
        cut, keep = repair_boxes(np.zeros((0, 4), np.float32), SIZE, policy)
        assert cut.shape == (0, 4)
        assert keep.shape == (0,)


def test_repairing_twice_changes_nothing() -> None:
    labels = np.zeros(len(BOXES), np.int64)
    cut, keep = repair_boxes(BOXES, SIZE, "clip", labels)
    again, stays = repair_boxes(cut[keep], SIZE, "drop", labels[keep])
    assert stays.all()
    assert (again == cut[keep]).all()


def test_whole_annotations() -> None:
    builder = AnnotationBuilder(["cat"], "here")
    builder.add(path="0", image_id="zero", size=SIZE, objects=[], where="0")
    rows = [RawObject("cat", tuple(box), area=float(i)) for i, box in enumerate(BOXES.tolist())]
    builder.add(path="1", image_id="one", size=SIZE, objects=rows, where="1")
    annotations = builder.build()
    clipped = repair(annotations, "clip")
    assert clipped.offsets.tolist() == [0, 0, 4]
    assert clipped.areas is not None
    assert clipped.areas.tolist() == [0, 2, 3, 4]
    assert len(repair(annotations, "drop").boxes) == 1
    with pytest.raises(UserError, match="here: 2 x not finite box, first in image one"):
        repair(annotations, "error")
    assert len(repair(clipped, "error").boxes) == 4
