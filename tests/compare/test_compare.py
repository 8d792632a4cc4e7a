from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_detector import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from detkit.commands import cli
from detkit.compare import compare
from detkit.compare.contender import OWN, Contender, compose_contenders
from detkit.compare.protocol import check_one_protocol
from detkit.core.errors import UserError
from detkit.task.detection.task import DetectionTask

MODEL = """
defaults:
  - /preprocess@_global_.preprocess: short_side
  - _self_
_target_: fake_detector.build_fake
poison: null
"""


@pytest.fixture
def run(tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """run(*overrides): `detkit compare` on a tiny set, with the models `fake` and `other`; results in tmp_path/run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    for name in ("fake", "other"):
        (tmp_path / "own" / "model" / f"{name}.yaml").write_text(MODEL)
    settings = [
        "data=voc", f"data.root={tiny_voc}", "device=cpu", "loader.batch_size=2", "loader.num_workers=0",
        "logger.tensorboard=false", "trainer.budget=2it", "trainer.eval_every=null", "evaluation.pictures=0",
        "evaluation.timing_images=3", "evaluation.timing_warmup=1", "trust=[fake_detector]",
    ]  # fmt: skip

    def compared(*overrides: str, options: tuple[str, ...] = ()) -> int:
        return cli.main(["compare", "--config-dir", "own", *options, *settings, *overrides])

    return compared


@pytest.fixture
def compose_compare() -> Callable[..., DictConfig]:
    """compose_compare(*overrides): the config of `detkit compare`, whose own overrides are none unless given."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("compare", overrides=["overrides=[]", *overrides])

    return composed


@pytest.mark.slow
def test_trains_measures_and_times_side_by_side(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = '{broken:["model=other","model.poison=t0","trainer.budget=4it"]}'
    command = ["model=fake", f"models=[fake,{broken}]", "run_dir=run"]
    assert run(*command, "seeds=[0,1]") == 0
    fake, other = json.loads((tmp_path / "run" / "compare.json").read_text())["rows"]
    assert fake["seeds"] == [0, 1] and fake["errors"] == [] and len(fake["mAP_area"]["values"]) == 2
    assert other["seeds"] == [] and "TrainingDiverged" in other["errors"][0]  # in 4 steps of 2 each image has its turn
    assert (tmp_path / "run" / "broken" / "seed0" / "error.txt").is_file()
    timing = fake["timing"]
    assert timing["images"] == 3 and other["timing"] is None
    stages = sum(value for value in fake["stages"].values() if value is not None)
    assert stages == pytest.approx((1 + timing["stage_gap"]) * timing["total_ms"]["mean"], rel=1e-3)
    assert fake["parameters"] == 3 * 8 * 9 + 16 + 8 * 6 + 6 and fake["flops"] > 0
    assert len(fake["pictures"]) == 3 and all((tmp_path / "run" / path).is_file() for path in fake["pictures"])
    page = (tmp_path / "run" / "compare.html").read_text()
    assert page.count("<img") == 3 and "http" not in page
    assert "| broken |" in (tmp_path / "run" / "compare.md").read_text()

    # The same again: nothing is trained twice. A finished run is measured as it is, beside them or alone.
    monkeypatch.setattr(compare, "train", lambda job: pytest.fail(f"{job.name} is trained again"))
    assert run("models=[fake,{old:run/fake/seed1}]", "run_dir=run", "evaluation.timing_images=0") == 0
    again, old = json.loads((tmp_path / "run" / "compare.json").read_text())["rows"]
    assert again["mAP_area"]["values"] == fake["mAP_area"]["values"][:1]
    assert old["mAP_area"]["values"] == fake["mAP_area"]["values"][1:] and old["timing"] is None

    # Other settings do not overwrite it.
    capsys.readouterr()
    assert run("models=[fake]", "run_dir=run", "optimizer.lr=0.5") == 2
    assert "holds a training with other settings: optimizer.lr=0.5 (was" in capsys.readouterr().err


def test_a_fine_tuning_is_not_repeated_and_has_a_name(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("models=[fake]", "run_dir=first", "evaluation.timing_images=0") == 0
    again = [
        'models=["finetune=first/fake/seed0",{mine:["finetune=first/fake/seed0","optimizer.lr=0"]}]',
        "run_dir=run",
    ]
    assert run(*again, "evaluation.timing_images=0") == 0
    first, mine = json.loads((tmp_path / "run" / "compare.json").read_text())["rows"]
    assert (first["name"], mine["name"]) == ("fake_tuned", "mine") and first["errors"] == mine["errors"] == []
    monkeypatch.setattr(compare, "train", lambda job, _: pytest.fail(f"{job.name} is trained again"))
    assert run(*again) == 0
    rows = json.loads((tmp_path / "run" / "compare.json").read_text())["rows"]
    assert [row["errors"] for row in rows] == [[], []]
    assert [row["mAP_area"] for row in rows] == [first["mAP_area"], mine["mAP_area"]]


def test_what_a_model_of_the_comparison_does_not_have_is_no_fault_of_the_command(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("models=[ssd_light]", "augment=ssd", "data.val_split=null", "run_dir=run") == 2
    assert "no split to measure on" in capsys.readouterr().err  # and not that the default model knows no height
    assert run("models=[retinanet_light]", "augment=ssd", "run_dir=run") == 2
    assert "choose parts that go together" in capsys.readouterr().err


def test_a_multirun_ends_in_one_table(run: Callable[..., int], tmp_path: Path) -> None:
    assert run(
        "model=fake", "trainer.clip_norm=1,2", "hydra.sweep.dir=sweep", "evaluation.timing_images=0", options=("-m",)
    ) == 0  # fmt: skip
    rows = json.loads((tmp_path / "sweep" / "compare.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["trainer.clip_norm=1", "trainer.clip_norm=2"]
    assert rows[0]["delta"] is None and rows[1]["delta"]["se"] is None
    assert (tmp_path / "sweep" / rows[1]["pictures"][0]).is_file()
    assert (tmp_path / "sweep" / "compare.html").read_text().count("<img") == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models=[fakee]"], "fakee is neither a model nor a file or run folder; did you mean fake?"),
        (["models=[fake,fake]"], "two are called fake"),
        (["models=[faster_rcnn_light]", "backbone=resnet5"], "no model/backbone=resnet5; did you mean resnet50?"),
        (['models=[fake,{b:["model=other","data.val_split=train"]}]'], "would not be measured alike"),
        (["models=[fake]", "data.val_split=null"], "no split to measure on"),
        (['models=[{b:["model=other","optimiser.lr=1"]}]'], "optimizer"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    assert run(*overrides, "run_dir=run") == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.*"))


def test_every_key_of_train_is_one_of_compare(
    compose_compare: Callable[..., DictConfig], compose_train: Callable[..., DictConfig]
) -> None:
    assert {*compose_compare()} == {*compose_train(), *OWN}


def test_a_backbone_goes_wherever_the_model_has_one(compose_compare: Callable[..., DictConfig], tmp_path: Path) -> None:
    found = compose_contenders(compose_compare("models=[rcnn_light,faster_rcnn_light]", "backbone=resnet18"), tmp_path)
    rcnn, faster = (contender.jobs[0].model for contender in found)
    assert "pixels" in rcnn.backbone._target_ and rcnn.box_head.backbone.name == "resnet18"
    assert faster.backbone.name == "resnet18"


def test_the_svms_of_an_rcnn_are_a_row_after_it(compose_compare: Callable[..., DictConfig], tmp_path: Path) -> None:
    config = compose_compare("models=[rcnn_light,fast_rcnn_light]", "fit_svm=true", "seeds=[3,4]", "run_dir=x")
    contenders = compose_contenders(config, tmp_path)
    assert [one.name for one in contenders] == ["rcnn_light", "rcnn_light_svm", "fast_rcnn_light"]
    trained, fitted, _ = contenders
    assert [fit.checkpoint for fit in fitted.fits] == [job.run_dir for job in trained.jobs]
    assert [job.checkpoint for job in fitted.jobs] == [fit.run_dir for fit in fitted.fits]
    assert fitted.trainings == () and len(trained.trainings) == 2
    with pytest.raises(UserError, match="fit_svm=true: no R-CNN is trained here"):
        compose_contenders(compose_compare("models=[fast_rcnn_light]", "fit_svm=true"), tmp_path)


def test_the_command_goes_to_every_training(compose_compare: Callable[..., DictConfig], tmp_path: Path) -> None:
    config = compose_compare(
        'models=[faster_rcnn_light,{mine:["model/roi_pool=ps_roi_align","seed=9"]},"experiment=quickstart"]',
        'overrides=["trainer.budget=7it","data.root=somewhere","models=x","pictures=9","model=rfcn"]',
        "seeds=[3,4]",
    )
    faster, mine, quick = compose_contenders(config, tmp_path)
    assert [contender.name for contender in (faster, mine, quick)] == ["faster_rcnn_light", "mine", "quickstart"]
    assert [job.seed for job in mine.jobs] == [3, 4]
    for contender in (faster, mine, quick):
        first = contender.jobs[0]
        assert (first.trainer.budget, first.data.root) == ("7it", "somewhere")
        assert first.run_dir == str(tmp_path / contender.name / "seed3")
    assert "ps_roi" not in faster.jobs[0].model.roi_pool._target_.lower()


def test_nothing_to_compare_is_refused(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models=[]") == 2
    assert "models=[]: name at least one" in capsys.readouterr().err


def test_models_for_different_tasks_are_not_measured_alike() -> None:
    class OtherTask(DetectionTask):
        pass

    job = OmegaConf.create({"data": {"root": ".", "test_split": "test"}, "trainer": {"precision": "fp32"}})
    same, other = (Contender(task.__name__, jobs=(job,), task=task()) for task in (DetectionTask, OtherTask))
    assert isinstance(check_one_protocol([same]), DetectionTask)
    with pytest.raises(UserError, match=r"not be measured alike:\nDetectionTask: .*\nOtherTask: .*OtherTask"):
        check_one_protocol([same, other])
