"""Run `detkit fit_svm`: fit R-CNN's SVMs and box regressors on a trained network (R-CNN, section 2.3)."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from detkit.checkpoint.build import build_detector, build_from_checkpoint, build_source, without_pretrained
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.store import save_checkpoint
from detkit.config.instantiate import build
from detkit.config.node import Config, as_node, plain
from detkit.core.distributed import join_world
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.data.split import describe_reading, read_training_split
from detkit.evaluate.evaluate import merge_data
from detkit.infer.detect import evaluation_loader, place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.predictor import SVMPredictor
from detkit.model.roi_head.rcnn import RCNNHead
from detkit.model.two_stage import TwoStageDetector
from detkit.proposal.split_proposals import with_proposals
from detkit.run.own_folder import RUN, own_folder
from detkit.run.run_folder import open_folder
from detkit.svm.hard_negatives import SVMSettings
from detkit.svm.region_stream import stream_regions
from detkit.svm.svm_passes import fit_boxes_and_svms
from detkit.task.base import task_of

LOGGER = logging.getLogger(__name__)


def fit_svm(config: Config) -> None:
    """Fit as `config` (configs/fit_svm.yaml) says, and write a checkpoint like any other into `config.run_dir`.

    Raises UserError for what the config gets wrong, and where the checkpoint is not that of an R-CNN.
    """
    with join_world(config.device) as world, own_folder(Path(config.run_dir), RUN, world) as folder:
        if world.size > 1:
            raise UserError("detkit fit_svm runs in one process: start it without torchrun")
        saved = load_checkpoint(config.checkpoint, trust=config.trust)
        classes = saved.classes
        data = merge_data(config.data, saved.data_config, saved.trust)
        detector, model = with_svm(saved, config)
        weights = {name: value.clone() for name, value in detector.state_dict().items()}  # before they are folded

        annotations = read_training_split(data, config.split or data["train_split"], classes)
        for line in describe_reading(annotations):
            LOGGER.warning(line)
        source = build(config.get("proposal"), "proposal") or build_source(saved, for_any_image=False)
        loader = evaluation_loader(
            task_of(detector),
            with_proposals(annotations, source, repair=data["repair"], **config.proposal_cache),
            detector.preprocess,
            world,
            batch_size=1,
            num_workers=config.num_workers,
            difficult=data["difficult"],
        )
        predictor = cast(SVMPredictor, cast(RCNNHead, detector.roi_head).predictor)
        execution = Execution(world.device, config.precision, config.channels_last)
        place_for_inference(detector, execution)
        fitted, samples = fit_boxes_and_svms(
            partial(stream_regions, detector, loader, execution),
            num_images=len(annotations),
            num_classes=len(classes),
            split=predictor.split,
            svm=SVMSettings(**config.svm),
            feature_norm=config.feature_norm,
            negative_iou=config.negative_iou,
            box_iou=config.box.from_iou,
            penalty=config.box.penalty,
        )

        settings = {**saved.config, "model": model, "data": plain(as_node(data))}
        if config.get("proposal") is not None:
            settings["proposal"] = plain(config.proposal)
        open_folder(folder, settings, world)
        weights |= {f"roi_head.predictor.{name}": value for name, value in fitted.items()}
        written = replace(saved, model=weights, ema=None, config=settings, training=None)
        save_checkpoint(folder / "checkpoints" / "best.pt", written)
    told = dict(zip(classes, samples, strict=True))
    (folder / "svm.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for name, counts in told.items():
        LOGGER.info(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    LOGGER.info(f"written to {folder}; measure it: detkit eval checkpoint={folder}")


def with_svm(saved: Checkpoint, config: Config) -> tuple[TwoStageDetector, Settings]:
    """The detector of a checkpoint with SVMs yet to be fitted in place of its softmax, and its model config."""
    trained = build_from_checkpoint(saved)
    head = getattr(trained, "roi_head", None)
    if not isinstance(head, RCNNHead):
        raise UserError(f"checkpoint={config.checkpoint} is no R-CNN: fit_svm takes what was trained as model=rcnn")
    model = deepcopy(dict(saved.model_config))
    cells = config.box.cells
    model["predictor"] = plain(config.predictor)
    model["predictor"]["box_features"] = head.box_head.map_channels * cells**2
    model["box_head"]["map_cells"] = cells
    model["roi_head"]["box_std"] = [1.0] * 4  # the regressors give offsets as they are
    model["postprocess"] = plain(config.postprocess)
    detector = build_detector(without_pretrained(model), len(saved.classes), trained.preprocess)
    assert isinstance(detector, TwoStageDetector)
    kept = {name: value for name, value in trained.state_dict().items() if not name.startswith("roi_head.predictor.")}
    detector.load_state_dict(detector.state_dict() | kept)
    return detector, model
