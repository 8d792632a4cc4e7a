from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broken_voc import FAULTS, write_broken
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from detkit.commands.check_data import run_check
from detkit.core.errors import UserError
from detkit.data.annotations import Annotations
from detkit.data.dataset import DetectionDataset
from detkit.data.formats.coco.coco import read_coco
from detkit.data.formats.voc.voc import read_voc
from detkit.data.quality.check import check_dataset, read_splits
from detkit.data.quality.inspect_image import inspect_image
from detkit.data.quality.repaired_copy import write_repaired
from detkit.data.quality.summary import SIDES, summarise, summary_text
from detkit.image.preprocess import ShortSide
from detkit.image.read import read_image

CLASSES = ["cat", "dog"]
Compose = Callable[..., DictConfig]


@pytest.fixture
def config() -> Compose:
    """config(*overrides): that of `detkit check_data <overrides>`."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(Path(__file__).parents[3] / "configs"), version_base="1.3"):
            return compose("check_data", overrides=list(overrides))

    return composed


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return write_broken(tmp_path / "broken")


def read_both(root: Path) -> dict[str, Annotations]:
    return {split: read_voc(root, split, CLASSES) for split in ("train", "val")}


def test_every_fault_is_named_and_nothing_else(broken: Path) -> None:
    report = check_dataset(read_both(broken))
    named = {
        (kind, split, where)
        for kind, split, where in FAULTS
        if any(f.kind == kind and f.split == split and where in f.where for f in report.faults)
    }
    assert named == FAULTS
    assert len(report.faults) == len(FAULTS)
    text = report.text(limit=1)
    assert "did you mean 'dog'?" in text
    assert "as stored, by its declared size" in text
    assert "out-of-range box: 2\n" in text and "... and 1 more" in text
    assert text.endswith(f"\n{len(FAULTS)} faults")


@pytest.mark.parametrize("policy", ["clip", "drop"])
def test_the_repaired_copy_has_no_fault(broken: Path, tmp_path: Path, policy: str) -> None:
    splits = read_both(broken)
    report = check_dataset(splits)
    message = write_repaired(splits, report.inspections, tmp_path / "fixed", policy)
    assert "splits train, val" in message
    fixed = read_both(tmp_path / "fixed")
    assert check_dataset(fixed).faults == []
    assert sorted(fixed["val"].image_ids) == ["in_both", "other_name", "val_only"]
    train = {image_id: fixed["train"].objects(i).boxes.tolist() for i, image_id in enumerate(fixed["train"].image_ids)}
    assert {"sound", "in_both", "no_objects", "text", "truncated"}.isdisjoint(train)
    assert train["far_out"] == train["zero_size"] == train["one_pixel"] == train["duplicate_box"] == [[10, 10, 40, 40]]
    assert train["inverted"] == [[10, 10, 40, 40]]  # put in order by the reader
    assert train["out_of_range"] == ([[60, 30, 80, 60]] if policy == "clip" else [])
    copied = (tmp_path / "fixed" / "JPEGImages" / "one_pixel.jpg").read_bytes()
    assert copied == (broken / "JPEGImages" / "one_pixel.jpg").read_bytes()
    turned = tmp_path / "fixed" / "JPEGImages" / "turned.png"
    assert (read_image(turned) == read_image(broken / "JPEGImages" / "turned.jpg", upright=False)).all()
    with pytest.raises(UserError, match="is not an empty folder"):
        write_repaired(splits, report.inspections, tmp_path / "fixed", policy)


def test_training_sees_the_broken_folder_through(broken: Path) -> None:
    dataset = DetectionDataset(read_voc(broken, "train", CLASSES), preprocess=ShortSide(short=60, max=100))
    seen = {kind for index in range(len(dataset)) for kind, _ in dataset[index].target.get("faults", ())}
    assert {"unreadable image", "duplicate box", "not finite box", "zero-size box"} <= seen


def test_the_verb(broken: Path, tmp_path: Path, config: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"data.root={broken}", "data.classes=[cat,dog]"]
    report = tmp_path / "deep" / "report.json"
    assert run_check(config(*arguments, f"report={report}", f"output={tmp_path / 'fixed'}", "limit=0")) == 1
    out = capsys.readouterr().out
    assert "out-of-range box: 2\n  ... and 2 more" in out
    content = json.loads(report.read_text())
    assert len(content["faults"]) == sum(content["fault_counts"].values()) == len(FAULTS)
    assert content["splits"]["val"]["classes"]["cat"] == {"objects": 3, "images": 3, "difficult": 0}
    assert run_check(config(f"data.root={tmp_path / 'fixed'}", "data.classes=[cat,dog]")) == 0
    assert capsys.readouterr().out.endswith("\nno faults\n")


def test_error_policy_writes_no_copy(broken: Path, tmp_path: Path, config: Compose) -> None:
    arguments = [f"data.root={broken}", "data.classes=[cat,dog]", "data.repair=error"]
    assert run_check(config(*arguments)) == 1
    with pytest.raises(UserError, match="no copy is written"):
        run_check(config(*arguments, f"output={tmp_path / 'fixed'}"))
    assert not (tmp_path / "fixed").exists()


def test_mistakes_are_told_before_the_pass(broken: Path, config: Compose) -> None:
    with pytest.raises(UserError, match="is not set: add data"):
        run_check(config())
    with pytest.raises(UserError, match="repair=fix: choose one of clip, drop, error"):
        run_check(config(f"data.root={broken}", "data.repair=fix"))
    with pytest.raises(UserError, match="is not an empty folder"):
        run_check(config(f"data.root={broken}", f"output={broken}"))


def test_no_split_is_a_mistake(broken: Path, config: Compose) -> None:
    none = config(f"data.root={broken}", "data.train_split=null", "data.val_split=null")
    with pytest.raises(UserError, match="no split to check"):
        read_splits(none.data)


def test_a_split_named_twice_is_checked_once(broken: Path, config: Compose) -> None:
    twice = config(f"data.root={broken}", "data.train_split=val", "data.test_split=val")
    assert list(read_splits(twice.data)) == ["val"]


def test_ids_that_repeat_or_hold_slashes_get_names_of_their_own(tmp_path: Path) -> None:
    roots = [write_broken(tmp_path / "VOC2007"), write_broken(tmp_path / "VOC2012")]
    for number, root in enumerate(roots):
        (root / "ImageSets" / "Main" / "few.txt").write_text("sound\none_pixel\n")
        Image.new("RGB", (80, 60), (number * 90, 0, 9)).save(root / "JPEGImages" / "sound.jpg")
        Image.new("RGB", (80, 60), (number * 90, 90, 9)).save(root / "JPEGImages" / "one_pixel.jpg")
    joined = read_voc(tmp_path, "VOC2007/few+VOC2012/few", CLASSES)
    alone = read_voc(tmp_path / "VOC2007", "few", CLASSES)
    write_repaired({"a+b": joined}, check_dataset({"a+b": joined}).inspections, tmp_path / "joined", "clip")
    assert list(read_voc(tmp_path / "joined", "a_b").image_ids)[::3] == ["VOC2007_sound", "VOC2012_one_pixel"]
    splits = {"a": alone, "b": read_voc(tmp_path / "VOC2012", "few", CLASSES)}
    write_repaired(splits, check_dataset(splits).inspections, tmp_path / "both", "clip")
    assert list(read_voc(tmp_path / "both", "b").image_ids) == ["b_sound", "b_one_pixel"]


@pytest.mark.parametrize(
    ("orientation", "declared", "upright", "said"),
    [
        (6, (80, 60), True, "drawn on it as shown"),
        (6, (60, 80), False, "drawn on it as stored"),
        (3, (60, 80), True, "cannot be told"),
        (6, (0, 0), True, "cannot be told"),
    ],
)
def test_the_frame_of_a_turned_image(
    make_voc, orientation: int, declared: tuple[int, int], upright: bool, said: str
) -> None:
    root = make_voc({"x": [("cat", (1, 1, 50, 60), False)]}, suffix=".jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (80, 60), (200, 0, 0)).save(root / "JPEGImages" / "x.jpg", exif=exif)
    annotations = read_voc(root, "train")
    annotations.sizes[:] = declared
    result = inspect_image(annotations, 0)
    assert [fault.kind for fault in result.faults] == ["EXIF-rotated image"]
    assert said in result.faults[0].message
    assert result.upright == upright
    assert result.size == (declared if declared != (0, 0) else (80, 60))


def test_summary_counts(make_voc) -> None:
    root = make_voc(
        {
            "a": [("cat", (1, 1, 30, 30), False), ("cat", (1, 1, 4, 4), True), ("dog", (1, 1, 60, 40), False)],
            "b": [("cat", (5, 5, 5, 5), False)],
            "c": [],
        }
    )
    summary = summarise(read_voc(root, "train"), [(40, 60)] * 3)
    assert (summary.images, summary.without_objects, summary.objects, summary.difficult) == (3, 1, 4, 1)
    assert summary.classes["cat"] == {"objects": 3, "images": 2, "difficult": 1}
    assert dict(zip(SIDES, summary.box_sides, strict=True)) == dict.fromkeys(SIDES, 0) | {0: 2, 16: 1, 32: 1}
    text = summary_text({"train": summary, "val": summary})
    assert "3 / 2 / 1" in text
    assert "image sizes: 6 of 60x40" in text
    assert json.dumps(summary.to_dict())


def test_an_empty_split(make_voc) -> None:
    report = check_dataset({"train": read_voc(make_voc({}), "train")})
    assert [fault.kind for fault in report.faults] == ["no images"]
    assert report.text(5).endswith("\n1 fault")


def test_boxes_without_end_are_counted_as_nothing(make_voc) -> None:
    annotations = read_voc(make_voc({"a": [("cat", (1, 1, 30, 30), False)]}), "train")
    annotations.boxes[0] = [0, 0, np.inf, np.nan]
    assert summarise(annotations, [(40, 60)]).box_sides[0] == 1


@pytest.mark.real_data
def test_real_sets(shared_data: Path) -> None:
    bccd = check_dataset({split: read_voc(shared_data / "bccd", split) for split in ("train", "val", "test")})
    assert bccd.counts() == {"one-pixel box": 2}
    assert sum(summary.objects for summary in bccd.summaries.values()) == 4888
    raccoon = check_dataset({split: read_voc(shared_data / "raccoon", split) for split in ("trainval", "test")})
    assert raccoon.counts() == {"duplicate image": 2, "split overlap": 2}
    voc = check_dataset({"val": read_voc(shared_data / "voc2012_100" / "VOC2012", "val")})
    assert voc.counts() == {}
    assert voc.summaries["val"].difficult == 38
    coco = check_dataset({"instances": read_coco(shared_data / "coco33", "instances")})
    assert coco.counts() == {
        "class without objects": 80 - len(np.unique(read_coco(shared_data / "coco33", "instances").labels))
    }
    assert (coco.summaries["instances"].images, coco.summaries["instances"].objects) == (33, 246)
