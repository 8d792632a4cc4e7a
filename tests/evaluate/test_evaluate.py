from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_detector import ROOT, fake_config
from hydra import compose, initialize_config_dir
from noise_voc import write_voc
from omegaconf import DictConfig, OmegaConf

import detkit
from detkit.core.errors import UserError
from detkit.evaluate.evaluate import merge_data, read_test_split, run_eval
from detkit.evaluate.write_results import format_table
from detkit.task.detection.task import DetectionTask
from detkit.train.train import train

TRUST = ["trust=[fake_detector]"]


def eval_config(run_dir: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("eval", [f"run_dir={run_dir}", "evaluation.num_workers=0", "device=cpu", *TRUST, *overrides])


@pytest.fixture
def trained(tiny_voc: Path, tmp_path: Path) -> Path:
    train(fake_config(tiny_voc, tmp_path / "run", "trainer.budget=4it", "trainer.ema=0.5"))
    return tmp_path / "run"


def test_a_checkpoint_alone_is_enough(trained: Path, tmp_path: Path) -> None:
    found = run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}"))
    told = json.loads((trained / "metrics.json").read_text())
    assert found["voc"] == told["voc"] and found["coco"] == told["coco"]
    assert found["protocol"]["step"] == 4 and found["protocol"]["split"].endswith("split=val")
    assert found["proposals"]["100"]["recall_50"] == 0.0  # the fake proposes whole images, objects are smaller
    assert list(found["timing"]["stages_ms"])[-2:] == ["head", "other"]
    assert (tmp_path / "eval" / "report.html").is_file()
    table = format_table(DetectionTask(), found)
    for part in ("3 images of", "VOC mAP@.5 area", "COCO AP", "dot", "recall@.5", "ms per image", "backbone"):
        assert part in table


def test_a_detector_of_ones_own_is_loaded_where_it_is_trusted(trained: Path, tmp_path: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UserError, match=r"model\._target_=fake_detector\.build_fake: .* add trust=\[fake_detector\]"):
        detkit.load(trained)
    assert len(detkit.load(trained, trust="fake_detector", device="cpu").predict(image)) == 1
    with pytest.raises(UserError, match=r"add trust=\[fake_detector\]"):
        run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", "trust=[]"))


def test_a_profile_is_in_table_and_report(trained: Path, tmp_path: Path) -> None:
    found = run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", "profile=true"))
    assert found["profile"]["peak_gflops"] > 0 and found["profile"]["total"]["gflop"] > 0
    assert "of peak" in format_table(DetectionTask(), found)
    assert "of peak" in (tmp_path / "eval" / "report.html").read_text()


def test_other_data_and_split(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_voc(tmp_path / "other", {"a": [("dot", (2, 2, 20, 20), False)], "b": []}, "test")
    (other / "Annotations" / "c.xml").write_text((other / "Annotations" / "a.xml").read_text())
    config = eval_config(
        tmp_path / "eval", f"checkpoint={trained}/checkpoints/last.pt", f"data.root={other}", "split=test"
    )
    found = run_eval(config)
    assert found["protocol"]["num_images"] == 2 and found["protocol"]["num_objects"] == 1
    assert found["voc"]["per_class"]["bar"]["ap_area"] is None
    assert "1 annotation files below" in capsys.readouterr().err  # a note of the reader


def test_a_split_without_objects_is_measured_without_numbers_and_one_without_images_refused(
    trained: Path, tmp_path: Path
) -> None:
    other = write_voc(tmp_path / "other", {}, "test")
    with pytest.raises(UserError, match=r"split=test has no images\nlooked in .*test.txt"):
        run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", f"data.root={other}", "split=test"))
    write_voc(other, {"a": []}, "test")
    found = run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", f"data.root={other}", "split=test"))
    assert found["protocol"]["num_images"] == 1 and found["voc"]["mAP_area"] is None
    assert "VOC mAP@.5 area -" in format_table(DetectionTask(), found)


def test_classes_must_be_those_of_the_model(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'dott' is none of them; did you mean 'dot'"):
        run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", "data.classes=[bar, dott]"))
    other = write_voc(tmp_path / "other", {"a": [("cat", (2, 2, 20, 20), False)]}, "test")
    with pytest.raises(UserError, match="no object of a class of the model: class 'cat'"):
        run_eval(eval_config(tmp_path / "eval", f"checkpoint={trained}", f"data.root={other}", "split=test"))


def test_data_of_the_command_line_wins_over_that_of_the_checkpoint(tmp_path: Path) -> None:
    saved = {"root": "old", "test_split": "test", "reader": {"_target_": "detkit.data.formats.voc.voc.read_voc"}}
    given = OmegaConf.create({"root": str(tmp_path), "test_split": "???", "reader": "???"})
    assert merge_data(given, saved) == saved | {"root": str(tmp_path)}
    given.test_split = None
    assert merge_data(given, saved) == saved | {"root": str(tmp_path), "test_split": None}
    with pytest.raises(UserError, match=r"data.root=.*new does not exist"):  # a saved reader may draw a set there
        merge_data(OmegaConf.create({"root": str(tmp_path / "new"), "reader": "???"}), saved)
    assert merge_data(OmegaConf.create({"root": "???"}), saved)["root"] == "old"


@pytest.mark.parametrize(
    "target",
    ["os.system", "detkit.data.formats.voc.voc.os.system", "detkit.data.formats.voc.voc.read_voc.x", "read_voc"],
)
def test_a_checkpoint_cannot_name_any_reader(target: str) -> None:
    with pytest.raises(UserError, match="choose data="):
        merge_data(OmegaConf.create({"reader": "???"}), {"reader": {"_target_": target}})
    assert merge_data({"reader": {"_target_": target}}, {"reader": None})["reader"]["_target_"] == target


def test_the_split_that_is_taken(tiny_voc: Path) -> None:
    data = fake_config(tiny_voc, tiny_voc).data
    assert read_test_split(data, None, ["bar", "dot"], DetectionTask()).source.endswith("split=val")
    data.test_split = "train"
    assert read_test_split(data, None, ["bar", "dot"], DetectionTask()).source.endswith("split=train")
    assert read_test_split(data, "val", ["bar", "dot"], DetectionTask()).source.endswith("split=val")


def test_files_need_no_model(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 10, "height": 10}],
        "categories": [{"id": 3, "name": "dot"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}],
    }
    results = [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.9}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = run_eval(
        eval_config(tmp_path, f"predictions={tmp_path}/results.json", f"ground_truth={tmp_path}/truth.json")
    )
    assert found["voc"]["mAP_area"] == 1 and found["coco"]["AP"] == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["coco"]["AP"] == 1


@pytest.mark.parametrize("overrides", [[], ["predictions=x.json"], ["predictions=x", "ground_truth=y", "checkpoint=z"]])
def test_what_is_missing_is_said(tmp_path: Path, overrides: list[str]) -> None:
    with pytest.raises(UserError, match="ground_truth="):
        run_eval(eval_config(tmp_path, *overrides))
