from __future__ import annotations

import pickle

import numpy as np
import pytest

from detkit.core.errors import UserError
from detkit.data.annotation_builder import AnnotationBuilder, RawObject
from detkit.data.annotations import Annotations, PackedStrings


def build(objects_per_image: list[list[RawObject]], prefix: str = "") -> Annotations:
    builder = AnnotationBuilder(["cat", "dog"], "test")
    for i, objects in enumerate(objects_per_image):
        builder.add(path=f"/{i}.jpg", image_id=f"{prefix}{i}", size=(10 + i, 20), objects=objects, where=i)
    return builder.build()


CAT = RawObject("cat", (0, 0, 5, 5))
DOG = RawObject("dog", (1.5, 2, 3, 4), difficult=True)


def test_packed_strings_give_back_what_they_were_given() -> None:
    strings = ["a", "", "größe/日本.jpg", "broken\udcff.jpg"]
    packed = PackedStrings.from_list(strings)
    assert list(packed) == strings
    assert packed[-1] == strings[-1]
    assert len(PackedStrings.from_list([])) == 0
    with pytest.raises(IndexError):
        packed[4]


def test_objects_are_those_of_their_image() -> None:
    annotations = build([[CAT, DOG], [], [DOG]])
    assert [len(annotations.objects(i).labels) for i in range(3)] == [2, 0, 1]
    boxes, labels, difficult = annotations.objects(0)
    assert boxes.tolist() == [[0, 0, 5, 5], [1.5, 2, 3, 4]]
    assert labels.tolist() == [0, 1]
    assert difficult.tolist() == [False, True]
    assert annotations.image_of_object().tolist() == [0, 0, 2]


def test_subset_keeps_order_and_repeats_nothing_else() -> None:
    annotations = build([[CAT, DOG], [], [DOG]])
    chosen = annotations.subset([2, 1, 0])
    assert list(chosen.image_ids) == ["2", "1", "0"]
    assert chosen.sizes[:, 0].tolist() == [12, 11, 10]
    assert chosen.objects(0).labels.tolist() == [1]
    assert chosen.objects(2).labels.tolist() == [0, 1]
    assert len(annotations.subset([])) == 0


def test_union_of_subsets_is_the_whole() -> None:
    annotations = build([[CAT, DOG], [], [DOG]])
    again = Annotations.union([annotations.subset([0]), annotations.subset([1, 2])])
    np.testing.assert_array_equal(again.boxes, annotations.boxes)
    np.testing.assert_array_equal(again.offsets, annotations.offsets)
    assert list(again.image_paths) == list(annotations.image_paths)
    with pytest.raises(ValueError, match="repeats image ids"):
        Annotations.union([annotations, annotations])


def test_no_images_and_no_objects() -> None:
    for empty in (build([]), build([[]])):
        assert empty.boxes.shape == (0, 4)
        assert empty.boxes.dtype == np.float32
        assert empty.sizes.shape == (len(empty), 2)


def test_unknown_classes_are_left_out_and_named() -> None:
    annotations = build([[CAT, RawObject("dgo", (0, 0, 1, 1)), RawObject("dgo", (0, 0, 2, 2))]])
    assert len(annotations.boxes) == 1
    assert annotations.left_out == {"dgo": 2}
    (fault,) = annotations.faults
    assert fault.kind == "unknown class"
    assert "did you mean 'dog'?" in fault.message


def test_a_repeated_id_counts_once() -> None:
    builder = AnnotationBuilder(["cat"], "test")
    for _ in range(2):
        builder.add(path="x", image_id="x", size=(1, 1), objects=[], where="x")
    annotations = builder.build()
    assert len(annotations) == 1
    assert [fault.kind for fault in annotations.faults] == ["duplicate id"]


def test_repeated_class_names_are_an_error() -> None:
    with pytest.raises(UserError, match="repeats cat"):
        AnnotationBuilder(["cat", "dog", "cat"], "test")


def test_memory_is_arrays_only() -> None:
    annotations = build([[CAT] * 10] * 500, "image")
    arrays = annotations.boxes.nbytes + annotations.labels.nbytes + annotations.difficult.nbytes
    assert len(pickle.dumps(annotations)) < arrays + 500 * 50 + 2000
