from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from detkit.commands.make_synthetic import run_make_synthetic
from detkit.core.errors import UserError
from detkit.data.annotations import Objects
from detkit.data.formats.voc.voc import read_voc
from detkit.data.formats.voc.voc_writer import voc_xml
from detkit.data.formats.voc.voc_xml import parse_voc
from detkit.data.split import read_split
from detkit.data.synthetic.synthetic import read_synthetic, write_synthetic
from detkit.data.synthetic.synthetic_scene import CLASSES, SMALLEST_SIDE, Scene, draw_scene
from detkit.data.synthetic.synthetic_shape import CLUTTER, SHAPES, Stencil, cut_stencil
from detkit.image.read import read_image

SIZE = (96, 128)
FEW = {"num_train": 4, "num_val": 2, "num_test": 1, "size": SIZE}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(0, index, SIZE) for index in range(60)]


def test_a_scene_is_a_function_of_its_arguments() -> None:
    first, again = draw_scene(3, 5, SIZE), draw_scene(3, 5, SIZE)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.image, draw_scene(3, 6, SIZE).image)
    assert not np.array_equal(first.image, draw_scene(4, 5, SIZE).image)


def test_boxes_are_those_of_the_visible_pixels(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (*SIZE, 3)
        assert scene.boxes.shape == (len(scene.labels), 4)
        assert set(np.unique(scene.masks)) - {0} == set(range(1, len(scene.labels) + 1))
        for number, (x1, y1, x2, y2) in enumerate(scene.boxes.astype(int), 1):
            mask = scene.masks == number
            inside = mask[y1:y2, x1:x2]
            assert inside.sum() == mask.sum()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert min(x2 - x1, y2 - y1) >= SMALLEST_SIDE


def test_a_set_has_every_kind_of_case(scenes: list[Scene]) -> None:
    labels = np.concatenate([scene.labels for scene in scenes])
    assert set(labels.tolist()) == set(range(len(CLASSES)))
    assert any(len(scene.labels) == 0 for scene in scenes)
    difficult = np.concatenate([scene.difficult for scene in scenes])
    assert 0 < difficult.mean() < 0.3


def test_colour_does_not_tell_the_class(scenes: list[Scene]) -> None:
    colours = [[] for _ in CLASSES]
    for scene in scenes:
        for number, label in enumerate(scene.labels, 1):
            colours[label].append(scene.image[scene.masks == number].mean(axis=0))
    means = np.array([np.mean(rows, axis=0) for rows in colours])
    spread = np.std(np.concatenate(colours), axis=0)
    assert (np.ptp(means, axis=0) < 1.5 * spread).all()


@pytest.mark.parametrize("shape", [*SHAPES.values(), *CLUTTER])
def test_shapes_stay_within_their_radius(shape) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        contours = shape(rng)
        assert max(np.linalg.norm(contour, axis=1).max() for contour in contours) < 1.2
        stencil = cut_stencil(rng, contours, (40.3, 20.7), 12)
        assert stencil.covers.any()


def test_a_stencil_beyond_the_border_shows_nothing() -> None:
    alpha = np.ones((5, 5), np.float32)
    assert Stencil(alpha, 20, 0).inside((10, 20)) is None
    assert Stencil(alpha, 0, -5).inside((10, 20)) is None
    there, here = Stencil(alpha, -2, 8).inside((10, 20)) or ((), ())
    assert there == (slice(8, 10), slice(0, 3))
    assert here == (slice(0, 2), slice(2, 5))


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert write_synthetic(tmp_path / "a", **FEW)
    assert write_synthetic(tmp_path / "b", **FEW)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not write_synthetic(tmp_path / "a", **FEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_more_training_scenes_leave_the_others_alone(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "a", **FEW)
    write_synthetic(tmp_path / "b", **{**FEW, "num_train": 5})
    for image_id in ("train_000003", "val_000001", "test_000000"):
        names = [f"JPEGImages/{image_id}.jpg", f"Annotations/{image_id}.xml", f"SegmentationObject/{image_id}.png"]
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    annotations = read_synthetic(tmp_path / "set", "train", **FEW)
    assert annotations.classes == list(CLASSES)
    assert annotations.faults == []
    assert len(read_synthetic(tmp_path / "set", "trainval", **FEW)) == 6
    assert len(read_synthetic(tmp_path / "set", "test", **FEW)) == 1
    for index, image_id in enumerate(annotations.image_ids):
        scene = draw_scene(0, index, SIZE)
        boxes, labels, difficult = annotations.objects(index)
        assert (boxes == scene.boxes).all()
        assert (labels == scene.labels).all()
        assert (difficult == scene.difficult).all()
        picture = read_image(annotations.image_paths[index])
        assert np.abs(picture.astype(int) - scene.image).mean() < 8
        objects = np.asarray(Image.open(tmp_path / "set" / "SegmentationObject" / f"{image_id}.png"))
        classes = np.asarray(Image.open(tmp_path / "set" / "SegmentationClass" / f"{image_id}.png"))
        assert (objects == scene.masks).all()
        assert all((classes[objects == k + 1] == label + 1).all() for k, label in enumerate(labels))


def test_the_folder_is_made_on_first_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "detkit")
    data = OmegaConf.load(Path(__file__).parents[3] / "configs" / "data" / "synthetic.yaml")
    data = OmegaConf.merge(data, {"root": str(tmp_path / "deep" / "set"), "reader": {**FEW, "size": list(SIZE)}})
    assert len(read_split(data, "train")) == 4
    assert len(caplog.messages) == 1
    assert len(read_split(data, "val")) == 2
    assert len(caplog.messages) == 1


def test_another_set_is_never_overwritten(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", **FEW)
    with pytest.raises(UserError, match=r"holds another synthetic set \(seed=0 instead of 1\)"):
        write_synthetic(tmp_path / "set", **FEW, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(UserError, match="is not empty and no synthetic set"):
        write_synthetic(tmp_path / "mine", **FEW)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="no synthetic set"):
        write_synthetic(tmp_path / "file", **FEW)


def test_nothing_half_made_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seed: int, index: int, size: tuple[int, int]) -> Scene:
        if index == 2:
            raise KeyboardInterrupt
        return draw_scene(seed, index, size)

    monkeypatch.setattr("detkit.data.synthetic.synthetic.draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "set", **FEW)
    assert list(tmp_path.iterdir()) == []


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = OmegaConf.create({"root": str(tmp_path / "set"), **FEW, "size": list(SIZE), "seed": 2})
    assert run_make_synthetic(config) == 0
    assert f"data=voc data.root={tmp_path / 'set'}" in capsys.readouterr().out
    assert len(read_voc(tmp_path / "set", "trainval")) == 6


def test_the_writer_is_the_inverse_of_the_reader(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 7, 5], [1.25, 2.1, 6.3, 4.999]], np.float32)
    objects = Objects(boxes, np.array([1, 0]), np.array([True, False]))
    path = tmp_path / "x.xml"
    path.write_text(voc_xml("x.png", (5, 7), objects, ["cat & <dog>", "bird"]))
    parsed = parse_voc(path)
    assert parsed.filename == "x.png"
    assert parsed.size == (5, 7)
    assert np.allclose([item.box for item in parsed.objects], boxes, atol=1e-6)
    assert parsed.objects[0].box == (0, 0, 7, 5)
    assert [(item.name, item.difficult) for item in parsed.objects] == [("bird", True), ("cat & <dog>", False)]
