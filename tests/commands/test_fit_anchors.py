from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from noise_voc import write_voc

from detkit.commands import cli
from detkit.commands.fit_anchors import fit_anchors, measure_fit, object_shapes
from detkit.core.errors import UserError
from detkit.data.split import read_split
from detkit.image.preprocess import Letterbox

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def config(root: Path, *overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("fit_anchors", overrides=["data=voc", f"data.root={root}", *overrides])


def test_shapes_are_those_the_network_sees(tiny_voc: Path) -> None:
    annotations = read_split(config(tiny_voc).data, "val")  # 48 x 40 pixels, one object of about 24 x 29 in each
    shapes = object_shapes(annotations, Letterbox(size=96))
    boxes = annotations.boxes
    assert torch.allclose(shapes, torch.from_numpy(2 * (boxes[:, 2:] - boxes[:, :2])))


@pytest.mark.parametrize(("difficult", "count"), [("ignore", 1), ("drop", 1), ("keep", 2)])
def test_difficult_objects_have_shapes_where_they_are_learnt(tmp_path: Path, difficult: str, count: int) -> None:
    root = write_voc(tmp_path, {"a": [("dot", (2, 2, 30, 30), False), ("dot", (20, 20, 60, 40), True)]}, "train")
    report = fit_anchors(config(root, f"data.difficult={difficult}", "num_anchors=1", "levels=1"))
    assert report["num_objects"] == count


def test_recall_by_hand() -> None:
    fit = measure_fit(torch.tensor([[10.0, 10], [10, 20], [100, 100]]), torch.tensor([[10.0, 12], [90, 90]]))
    ious = [10 / 12, 12 / 20, 0.81]
    assert fit["mean_iou"] == pytest.approx(sum(ious) / 3)
    assert [fit[f"recall_{t}"] for t in (0.5, 0.7, 0.8)] == pytest.approx([1, 2 / 3, 2 / 3])


def test_the_verb_prints_what_a_training_takes(tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "made" / "anchors.json"
    arguments = ["num_anchors=4", "levels=2", f"report={path}"]
    assert cli.main(["fit_anchors", "data=voc", f"data.root={tiny_voc}", *arguments]) == 0
    report = json.loads(path.read_text())
    assert [len(level) for level in report["anchors"]] == [2, 2]
    areas = [w * h for level in report["anchors"] for w, h in level]
    assert areas == sorted(areas) and len(report["fit"]) == 4
    last = capsys.readouterr().out.strip().splitlines()[-2]
    assert last == f"model.dense_head.anchors={json.dumps(report['anchors'], separators=(',', ':'))}"


@pytest.mark.parametrize(("overrides", "message"), [
    (("num_anchors=5", "levels=2"), "num_anchors=5 levels=2"),
    (("split=empty",), "no objects"),
])  # fmt: skip
def test_wrong_requests_are_named(tiny_voc: Path, overrides: tuple[str, ...], message: str) -> None:
    (tiny_voc / "ImageSets" / "Main" / "empty.txt").write_text("t6\n")
    with pytest.raises(UserError, match=message):
        fit_anchors(config(tiny_voc, "data.classes=[dot,bar]", *overrides))
