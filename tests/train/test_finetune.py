"""What a fine-tuning takes from its checkpoint, and what the user may choose otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from detkit.checkpoint.build import build_detector, build_preprocess
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.store import save_checkpoint
from detkit.commands.cli import config_dir
from detkit.config.chosen import chosen_by, for_finetuning
from detkit.config.overrides import config_loader
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.train.finetune import Start, find_start

SMALL = ("model.backbone.name=resnet10t", "model.backbone.pretrained=false", "preprocess.height=64")
CLASSES = ["ring", "star"]


@pytest.fixture(scope="module")
def ssd(tmp_path_factory: pytest.TempPathFactory, compose_train: Callable[..., DictConfig]) -> Path:
    """A checkpoint of an SSD with random weights."""
    path = tmp_path_factory.mktemp("ssd") / "ssd.pt"
    given = ("model=ssd_light", *SMALL, "name=mine", "run_dir=x")
    config: Any = OmegaConf.to_container(compose_train(*given), resolve=True)
    detector = build(config["model"], config["preprocess"], len(CLASSES))
    preprocess = detector.preprocess.to_dict()
    save_checkpoint(
        path, Checkpoint(model=detector.state_dict(), config=config, classes=CLASSES, preprocess=preprocess)
    )
    return path


def build(model: Any, preprocess: Any, num_classes: int) -> Any:
    torch.manual_seed(0)
    return build_detector(model, num_classes, build_preprocess(preprocess))


def with_own_backbone(saved: Checkpoint) -> Checkpoint:
    """The checkpoint with a backbone that is not detkit's."""
    backbone = {"_target_": "fake_detector.FakeDetector", "_partial_": True}
    return replace(saved, config={**saved.config, "model": {**saved.model_config, "backbone": backbone}})


class Begun(NamedTuple):
    """What a training starts from, and its settings."""

    start: Start
    settings: dict[str, Any]

    @property
    def changed(self) -> list[str]:
        return self.start.changed


@pytest.fixture
def start(ssd: Path, compose_train: Callable[..., DictConfig]) -> Callable[..., Begun]:
    """start(*overrides): of `detkit train finetune=SSD <overrides>`."""

    def started(*overrides: str, source: Path = ssd, saved: Any = None) -> Begun:
        given = [f"finetune={source}", *overrides]
        loader = config_loader(str(config_dir()))
        config = compose_train(*for_finetuning(loader, given, given), "name=x", "run_dir=x")
        found = find_start(config, saved, chosen_by(loader, given))
        settings: Any = OmegaConf.to_container(config, resolve=True)
        again = find_start(config, saved, chosen_by(loader, given))
        assert found is not None and again is not None and found.changed == again.changed
        assert OmegaConf.to_container(config, resolve=True) == settings  # done twice it is done once
        return Begun(found, settings)

    return started


def test_model_and_frame_are_those_of_the_checkpoint(start: Callable[..., Begun]) -> None:
    found = start("optimizer.lr=1")
    assert found.settings["model"]["_target_"].endswith("build_one_stage") and not found.changed
    assert found.settings["preprocess"]["height"] == 64


def test_a_frame_and_values_of_the_model_may_be_chosen(start: Callable[..., Begun]) -> None:
    found = start("preprocess.height=96", "model.dense_head.positive_iou=0.4", "model.backbone.frozen_stride=32")
    assert found.changed == [
        "model.backbone.frozen_stride=32 (was 4)", "model.dense_head.positive_iou=0.4 (was 0.5)",
        "preprocess.height=96 (was 64)",
    ]  # fmt: skip
    assert start("preprocess=letterbox").settings["preprocess"]["_target_"].endswith("Letterbox")


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("model=faster_rcnn_light", "is mine, not the model of model=faster_rcnn_light"),
        ("experiment=modern/yolox_bccd", r"not the model of experiment=modern/yolox_bccd \(with model=yolox_light\)"),
        ("experiment=modern/faster_rcnn_bccd", "not the model of experiment=modern/faster_rcnn_bccd"),
        ("model/backbone=resnet18", "drop model/backbone=resnet18: a fine-tuning takes its model from the checkpoint"),
        ("model/roi_pool=roi_align", "model/roi_pool=roi_align: the model of .* has no model.roi_pool"),
        ("model.backbone.pretrained=x.pth", "the weights come from finetune=.*, drop one of both"),
        ("model.dense_head.positiv_iou=0.4", "has no model.dense_head.positiv_iou; did you mean 'positive_iou'"),
        ("model.proposer.positive_iou=0.4", "has no model.proposer.positive_iou"),
        ("preprocess.size=64", "has no preprocess.size"),
    ],
)
def test_what_does_not_go_with_the_checkpoint_is_named(start: Callable[..., Begun], chosen: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        start(chosen)


def test_the_default_model_is_nobodys_choice_and_an_experiments_is() -> None:
    loader = config_loader(str(config_dir()))
    assert "model" not in chosen_by(loader, ["data=voc", "model.backbone.frozen_stride=4"]).groups
    assert "model" in chosen_by(loader, ["experiment=modern/faster_rcnn_bccd"]).groups
    assert "optimizer.lr" in chosen_by(loader, ["experiment=modern/ssd_bccd"]).keys
    assert for_finetuning(loader, ["finetune=x", "model.a=1", "seed=1"], ["finetune=x", "model.a=1", "seed=1"]) == [
        "finetune=x", "++model.a=1", "seed=1",
    ]  # fmt: skip
    assert for_finetuning(loader, ["model.a=1"], ["model.a=1"]) == ["model.a=1"]


def test_the_same_model_may_be_chosen_in_words(start: Callable[..., Begun]) -> None:
    found = start("model=ssd_light", *SMALL, "model.postprocess.score_threshold=0.2")
    assert found.changed == ["model.postprocess.score_threshold=0.2 (was 0.01)"]


def load(found: Begun, classes: list[str]) -> tuple[Any, str]:
    model, preprocess = found.settings["model"], found.settings["preprocess"]
    detector = build(model, preprocess, len(classes))
    return detector, found.start.load_into(detector, classes, lambda count: build(model, preprocess, count))


def test_what_is_kept_and_what_is_new_is_said(start: Callable[..., Begun]) -> None:
    assert load(start(), ["star", "zebra"])[1].endswith(": star; new: zebra; dropped: ring")
    assert load(start(), CLASSES)[1].endswith("; rows kept: ring, star; new: none")


def test_a_value_that_makes_other_weights_is_refused(start: Callable[..., Begun]) -> None:
    told = r"not those of a model with model\.neck\.channels=64 \(was 96\)\nnot in the .*\nonly in .*\ndrop model\.neck"
    with pytest.raises(UserError, match=told):
        start("model.neck.channels=64")
    with pytest.raises(UserError, match=r"frozen_stride=0 \(was 4\)"):  # what is folded into a layer has no norm
        start("model.backbone.frozen_stride=0")


def test_options_that_change_no_weights_may_be_chosen(start: Callable[..., Begun]) -> None:
    found = start("model/postprocess=nms_yolo", "model.postprocess.nms_iou=0.3")
    assert found.settings["model"]["postprocess"]["nms_iou"] == 0.3
    assert found.changed and all(text.startswith("model.postprocess.") for text in found.changed)


def test_regions_are_as_chosen_or_as_there(start: Callable[..., Begun], ssd: Path, tmp_path: Path) -> None:
    assert start("proposal=selective_search_fast").settings["proposal"]["_target_"].endswith("SelectiveSearch")
    saved = load_checkpoint(ssd)
    proposal = {"_target_": "detkit.proposal.selective_search.SelectiveSearch", "limit": 7}
    save_checkpoint(tmp_path / "outside.pt", replace(saved, config={**saved.config, "proposal": proposal}))
    assert start(source=tmp_path / "outside.pt").settings["proposal"]["limit"] == 7
    assert start("proposal.limit=9", source=tmp_path / "outside.pt").settings["proposal"]["limit"] == 9


def test_a_run_that_is_gone_on_with_needs_no_other_checkpoint(start: Callable[..., Begun], ssd: Path) -> None:
    saved = load_checkpoint(ssd)
    found = start(source=Path("gone.pt"), saved=saved)
    assert found.settings["preprocess"]["height"] == 64 and found.start.checkpoint is saved


def test_a_checkpoint_does_not_trust_itself(start: Callable[..., Begun], ssd: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "own.pt", with_own_backbone(load_checkpoint(ssd)))
    with pytest.raises(UserError, match=r"add trust=\[fake_detector\]"):
        start("model.postprocess.score_threshold=0.2", "preprocess=letterbox", source=tmp_path / "own.pt")


def test_a_backbone_that_is_frozen_further_computes_the_same(start: Callable[..., Begun]) -> None:
    before, after = (load(start(*more), CLASSES)[0].eval() for more in ((), ("model.backbone.frozen_stride=32",)))
    assert any(p.requires_grad for p in before.backbone.parameters())
    assert not any(p.requires_grad for p in after.backbone.parameters())
    image = torch.rand(1, 3, 64, 96)
    for one, other in zip(before.backbone(image), after.backbone(image), strict=True):
        assert torch.allclose(one, other, atol=1e-4) and one.std() > 0


def test_names_of_a_wrapped_model_fit_and_those_of_another_do_not(
    start: Callable[..., Begun], ssd: Path, tmp_path: Path
) -> None:
    saved = load_checkpoint(ssd)
    for name, rename in (("wrapped", "module.{}"), ("foreign", "features.{}")):
        weights = {rename.format(key): value for key, value in saved.model.items()}
        save_checkpoint(tmp_path / f"{name}.pt", replace(saved, model=weights))
    detector, _ = load(start(source=tmp_path / "wrapped.pt"), CLASSES)
    assert all(torch.equal(value, saved.model[key]) for key, value in detector.state_dict().items())
    with pytest.raises(UserError, match=r"0 of \d+ weights fit .*are they of another model\?"):
        load(start(source=tmp_path / "foreign.pt"), CLASSES)


def test_own_parts_are_built_where_the_command_names_or_trusts_them(
    start: Callable[..., Begun], ssd: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "own.pt", with_own_backbone(load_checkpoint(ssd)))
    with pytest.raises(UserError, match=r"add trust=\[fake_detector\]"):
        start(source=tmp_path / "own.pt")
    assert start("trust=[fake_detector]", source=tmp_path / "own.pt").settings["model"]["backbone"]["_partial_"]
    with pytest.raises(UserError, match=r"model\.backbone is FakeDetector there and TimmBackbone here"):
        start("model=ssd_light", source=tmp_path / "own.pt")
    named = ("model=ssd_light", *SMALL, "model.backbone._target_=fake_detector.FakeDetector")
    with pytest.raises(UserError, match=r"model\.backbone \(FakeDetector\) takes no"):  # so it was to be built
        start(*named, source=tmp_path / "own.pt")
