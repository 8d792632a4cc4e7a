"""Whose test settings a Darknet network has, what is said of them, and what its classes are called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from darknet_nets import write_files
from PIL import Image

import detkit
from detkit.checkpoint.build import build_from_checkpoint, with_inference_settings
from detkit.checkpoint.darknet.cfg import parse_cfg
from detkit.checkpoint.darknet.program import testing_of as settings_of
from detkit.checkpoint.darknet.program import with_program
from detkit.checkpoint.darknet.read_darknet import coco_names, read_darknet, read_names
from detkit.commands.cli import main
from detkit.core.errors import UserError
from detkit.data.formats.coco.coco import read_coco
from detkit.data.formats.voc.voc import read_voc
from detkit.image.preprocess import Letterbox, Warp

NET = "[net]\nwidth=96\nheight=96\n"
DIOU = "[yolo]\nnms_kind=diounms\nbeta_nms=.7\n"


@pytest.mark.parametrize(
    ("text", "options", "preprocess", "settings"),
    [
        (NET + DIOU, {}, Warp(height=96, width=96), (0.005, 0.45, "diou", 0.7)),
        (NET + "[yolo]\nnms_kind=diounms\n", {}, Warp(height=96, width=96), (0.005, 0.45, "diou", 0.6)),
        (NET + "[yolo]\nnms_kind=greedynms\nbeta_nms=.7\n", {}, Warp(height=96, width=96), (0.005, 0.45, "iou", 1)),
        (NET + "letter_box=1\n" + DIOU, {}, Letterbox(size=96, fill=127), (0.005, 0.45, "diou", 0.7)),
        (NET + DIOU, {"program": "pjreddie"}, Letterbox(size=96, fill=127), (0.005, 0.45, "iou", 1)),
        (NET + DIOU, {"letterbox": True}, Letterbox(size=96, fill=127), (0.005, 0.45, "diou", 0.7)),
        (NET + DIOU, {"program": "pjreddie", "letterbox": False}, Warp(height=96, width=96), (0.005, 0.45, "iou", 1)),
        (NET + "[detection]\n", {}, Warp(height=96, width=96), (0.001, 0.5, "iou", 1)),
        (NET + "[detection]\n", {"program": "pjreddie"}, Warp(height=96, width=96), (0.001, 0.5, "iou", 1)),
    ],
)
def test_settings_are_those_of_the_program(text: str, options: dict, preprocess, settings: tuple) -> None:
    found = settings_of(parse_cfg(text), **options)
    node = found.postprocess
    assert found.preprocess == preprocess
    assert (node["score_threshold"], node["nms_iou"], node["nms_kind"], node["beta_nms"]) == settings


def test_settings_are_said() -> None:
    said = [settings_of(parse_cfg(NET + DIOU), program).said for program in ("alexeyab", "pjreddie")]
    assert said[0] == (
        "tested as by AlexeyAB's `darknet detector map`: images resized to 96x96 whatever their shape, scores above "
        "0.005, NMS at DIoU (beta 0.7) 0.45"
    )
    assert said[1] == (
        "tested as by pjreddie's `darknet detector valid`: images within 96x96, scores above 0.005, NMS at IoU 0.45"
    )
    assert "`darknet yolo valid`" in settings_of(parse_cfg(NET + "[detection]\n")).said


def test_settings_that_cannot_be_are_named() -> None:
    with pytest.raises(UserError, match=r"darknet\.test=joseph: choose pjreddie or alexeyab"):
        settings_of(parse_cfg(NET + DIOU), "joseph")
    with pytest.raises(UserError, match=r"\[net\]: a letterbox with .* 96x64: only squares .*darknet\.letterbox=false"):
        settings_of(parse_cfg("[net]\nwidth=96\nheight=64\n" + DIOU), "pjreddie")


def test_a_checkpoint_is_tested_as_another_program_does_it(tmp_path: Path) -> None:
    cfg = write_files(tmp_path, "yolo")
    cfg.write_text(cfg.read_text().replace("[yolo]\n", DIOU).replace("width=128", "width=96"))
    content = read_darknet(cfg)
    model = build_from_checkpoint(content)
    assert (model.postprocess.nms_kind, model.postprocess.beta_nms) == ("diou", 0.7)
    assert detkit.load(cfg, device="cpu").preprocess == Warp(height=96, width=96)
    assert detkit.load(cfg, device="cpu", darknet={"test": "pjreddie"}).preprocess == Letterbox(size=96, fill=127)
    changed = with_program(content, test="pjreddie")
    assert changed.tested_as.startswith("tested as by pjreddie's")
    changed = with_inference_settings(changed, preprocess={"side": 128}, postprocess={"nms_iou": 0.5})
    assert changed.tested_as.endswith("; but for preprocess.side, postprocess.nms_iou")
    assert with_program(content, letterbox=True).preprocess["size"] == 96
    with pytest.raises(UserError, match=r"darknet\.test: the checkpoint holds no Darknet network"):
        with_program(replace(content, config={"model": {"_target_": "x"}}), test="pjreddie")
    with pytest.raises(UserError, match="darknet"):
        detkit.load(cfg, darknet={"test": "joseph"})


def test_eval_says_whose_settings_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = write_files(tmp_path, "region")
    cfg.with_suffix(".names").write_text("aeroplane\ntvmonitor\n")
    root = write_coco(tmp_path / "coco")
    given = [
        f"checkpoint={cfg}", "data=coco", f"data.root={root}", "split=val", "darknet.test=pjreddie",
        "darknet.letterbox=false", f"hydra.run.dir={tmp_path / 'eval'}", "device=cpu", "evaluation.num_workers=0",
        "evaluation.timing_images=0", "evaluation.pictures=0",
    ]  # fmt: skip
    assert main(["eval", *given]) == 0
    assert "tested as by pjreddie's `darknet detector valid`: images resized to" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["protocol"]["num_objects"] == 2 and "pjreddie's" in metrics["protocol"]["tested_as"]
    rows = json.loads((tmp_path / "eval" / "predictions.json").read_text())
    assert {row["category_id"] for row in rows} == {5, 72}  # of the file


def write_coco(root: Path) -> Path:
    """One picture with an airplane and a tv, as COCO calls and numbers them."""
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    Image.new("RGB", (96, 64)).save(root / "val" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 96, "height": 64}],
        "categories": [{"id": 5, "name": "airplane"}, {"id": 72, "name": "tv"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": number, "bbox": [8, 8, 30, 30], "area": 900, "iscrowd": 0}
            for k, number in enumerate((5, 72), start=1)
        ],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def test_classes_of_two_spellings_are_one(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    found = read_coco(root, "val", ["tvmonitor", "aeroplane"])
    assert found.labels.tolist() == [1, 0] and found.category_ids == [72, 5] and not found.faults
    assert found.classes == ["tvmonitor", "aeroplane"]
    assert found.notes == ["'airplane' is the class 'aeroplane'; 'tv' is the class 'tvmonitor'"]
    both = read_coco(root, "val", ["tvmonitor", "tv"])  # two classes of the model are two
    assert both.labels.tolist() == [1] and both.category_ids == [None, 72]
    assert read_coco(root, "val").notes == []


def test_coco_spelling_finds_voc_objects(tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (96, 64)).save(tmp_path / "JPEGImages/a.png")
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (tmp_path / "Annotations/a.xml").write_text(
        f"<annotation><size><width>96</width><height>64</height></size><object><name>diningtable</name>{box}</object></annotation>"
    )
    found = read_voc(tmp_path, "val", ["couch", "dining table"])
    assert found.labels.tolist() == [1] and not found.faults


def test_eighty_classes_without_names_are_those_of_coco(tmp_path: Path) -> None:
    names = read_names(tmp_path / "x.cfg", 80)
    assert names == coco_names() and len(set(names)) == 80
    assert [names[k] for k in (0, 4, 57, 58, 60, 62, 79)] == [
        "person", "airplane", "couch", "potted plant", "dining table", "tv", "toothbrush",
    ]  # fmt: skip
    assert read_names(tmp_path / "x.cfg", 3) == ["0", "1", "2"]


def test_keys_without_an_effect_are_named(tmp_path: Path) -> None:
    cfg = write_files(tmp_path, "yolo")
    cfg.write_text(
        cfg.read_text()
        .replace("[net]\n", "[net]\nmomentum=.9\nletter_box=0\nangle=3\n")
        .replace("[yolo]\n", "[yolo]\niou_loss=ciou\niou_thresh=.2\njitter=.3\nnms_kind=greedynms\n")
        .replace("[upsample]\n", "[upsample]\nstopbackward=1\n")
    )
    assert read_darknet(cfg).unused == (
        "keys of the .cfg that are not used here: [net] angle, momentum; [yolo] jitter; [upsample] stopbackward"
    )


def test_what_is_read_now_learns_as_its_sections_say(tmp_path: Path) -> None:
    content = read_darknet(write_files(tmp_path, "yolo"))
    assert content.model_config["revision"] == 2
    before = {key: value for key, value in content.model_config.items() if key != "revision"}  # of files of old
    assert build_from_checkpoint(replace(content, config={"model": before})).dense_head.revision == 1
