from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from detkit.core.errors import UserError
from detkit.data.formats.voc.voc import read_voc
from detkit.data.split import describe_faults, describe_reading, read_split, read_training_splits

OBJECTS = [("cat", (1, 1, 5, 5), False), ("dog", (1, 1, 6, 6), False)]


def config(root: object, **changes: object):
    return OmegaConf.create({
        "root": str(root),
        "classes": None,
        "repair": "clip",
        "reader": {"_target_": "detkit.data.formats.voc.voc.read_voc", "_partial_": True},
        **changes,
    })  # fmt: skip


def test_classes_of_the_config_or_of_the_model_or_found(make_voc) -> None:
    root = make_voc({"a": OBJECTS})
    assert read_split(config(root), "train").classes == ["cat", "dog"]
    assert read_split(config(root, classes=["dog", "cat"]), "train").labels.tolist() == [1, 0]
    assert read_split(config(root, classes=["cat"]), "train", ["dog"]).classes == ["dog"]
    built = {"root": root, "reader": partial(read_voc)}
    assert len(read_split(built, "train")) == 1


def test_a_mistyped_class_is_an_error_and_a_subset_is_not(make_voc) -> None:
    root = make_voc({"a": OBJECTS})
    with pytest.raises(UserError, match=r"no object is called 'Cat'; did you mean 'cat'\?"):
        read_split(config(root, classes=["Cat", "dog"]), "train")
    subset = read_split(config(root, classes=["dog", "zebra"]), "train")
    assert subset.labels.tolist() == [0]
    assert describe_faults(subset).startswith("1 x unknown class, as in ")
    subset.notes.append("a word")
    assert describe_reading(subset) == [f"{subset.source}: faults while reading: {describe_faults(subset)}", "a word"]


def test_repair_error_stops_at_the_first_fault(make_voc) -> None:
    root = make_voc({"a": OBJECTS, "b": []})
    (root / "Annotations" / "b.xml").write_text("<")
    assert len(read_split(config(root), "train")) == 1
    with pytest.raises(UserError, match=r"b.xml: unreadable annotation: .*data.repair=error"):
        read_split(config(root, repair="error"), "train")


def test_what_is_missing_is_named(tmp_path: Path, make_voc) -> None:
    root = make_voc({"a": OBJECTS})
    with pytest.raises(UserError, match=r"data.root is not set"):
        read_split(config("???"), "train")
    with pytest.raises(UserError, match=r"data.root=.*nowhere does not exist"):
        read_split(config(tmp_path / "nowhere"), "train")
    with pytest.raises(UserError, match="no split is given"):
        read_split(config(root), None)
    with pytest.raises(UserError, match=r"no split 'tarin'; did you mean 'train'"):
        read_split(config(root), "tarin")


def test_names_that_are_numbers_and_one_word_for_a_list(tmp_path: Path, make_voc) -> None:
    root = make_voc({"a": OBJECTS}, split="1", root=tmp_path / "2007")
    annotations = read_split(config(root, classes="cat"), 1)
    assert annotations.classes == ["cat"] and len(annotations.labels) == 1
    with pytest.raises(UserError, match=r"data.root=2007 does not exist"):
        read_split({**config(root), "root": 2007}, "1")
    with pytest.raises(UserError, match=r"^data.classes repeats cat$"):
        read_split(config(root, classes=["cat", "cat"]), 1)


def test_kept_difficult_objects_are_ordinary_ones(make_voc) -> None:
    root = make_voc({"a": [("cat", (1, 1, 5, 5), True)]})
    assert read_split(config(root), "train").difficult.all()
    assert not read_split(config(root, difficult="keep"), "train").difficult.any()


def test_all_splits_of_a_training_are_checked(make_voc) -> None:
    root = make_voc({"a": OBJECTS})
    make_voc({"b": [], "gone": []}, split="val")
    make_voc({"c": [("bird", (1, 1, 5, 5), False)]}, split="birds")
    (root / "JPEGImages" / "gone.png").unlink()
    names = {"train_split": "train", "val_split": "val", "test_split": None, "classes": ["cat", "dog"]}
    splits = read_training_splits(config(root, **names))
    assert splits.final is splits.val and len(splits.train) == 1
    said = splits.describe().split("\n")
    assert said[0].startswith(f"{splits.val.source}: faults while reading: 1 x missing image, as in ")
    assert said[1].endswith("nothing can be measured on it; the latest weights are the result")
    for changes, words in (
        ({"test_split": "birds"}, "split=birds has no object of a class of the model: class 'bird'"),
        ({"test_split": "tset"}, "no split 'tset'"),
        ({"train_split": "val"}, "split=val has no objects: not one in 1 image\n.*gone.xml: missing image"),
    ):
        with pytest.raises(UserError, match=words):
            read_training_splits(config(root, **(names | changes)))
