from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from detkit.data.split import describe_faults, read_split
from detkit.data.voc import read_voc
from detkit.errors import UserError

OBJECTS = [("cat", (1, 1, 5, 5), False), ("dog", (1, 1, 6, 6), False)]


def config(root: object, **changes: object):
    return OmegaConf.create({
        "root": str(root),
        "classes": None,
        "repair": "clip",
        "reader": {"_target_": "detkit.data.voc.read_voc", "_partial_": True},
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
