"""Measure parameters, FLOPs, memory and interleaved time of all contenders, and draw their detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detkit.checkpoint.build import build_from_checkpoint, build_source
from detkit.checkpoint.trust import named_in, names_of
from detkit.compare.comparison import Row, stage_columns
from detkit.compare.contender import Contender
from detkit.config.node import Config, plain
from detkit.data.annotations import Annotations
from detkit.evaluate.draw_examples import spread
from detkit.evaluate.evaluate import merge_data, read_test_split, timed_images
from detkit.image.read import read_image
from detkit.infer.detect import place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.profiling.peak_memory import count_flops, count_parameters, peak_memory
from detkit.profiling.speed import FEWEST_IMAGES, Pipeline, TimedImage, measure_together
from detkit.proposal.split_proposals import with_proposals
from detkit.task.base import task_of


class Prepared(NamedTuple):
    """The detector of a contender, ready to run.

    images: to be timed on. shown: those of the pictures, spread over the annotations.
    """

    pipeline: Pipeline
    annotations: Annotations
    images: list[TimedImage]
    shown: list[TimedImage]


def measure_side_by_side(
    rows: Sequence[Row], contenders: Sequence[Contender], config: Config, execution: Execution, folder: Path
) -> None:
    """Add to each row that has a checkpoint its parameters, side, flops, peak_memory, timing, stages and pictures.

    side: of the images, as its preprocess is called by. peak_memory in bytes, stages in ms by column, pictures as
    paths from `folder`. An R-CNN's name says then how it scores. What fails with one is noted in its row; the others
    go on.
    """
    prepared: dict[str, Prepared] = {}
    for row, contender in zip(rows, contenders, strict=True):
        if row["checkpoint"] is None:
            continue
        try:
            own, row["parameters"] = _prepare(row["checkpoint"], contender, config, execution)
            row["side"] = own.pipeline.detector.preprocess.side
            row["pictures"] = _save_pictures(own, folder, contender.file_name)
            if own.images:
                # an ONNX graph does not tell
                given = [image._replace(propose=None) for image in own.images[:FEWEST_IMAGES]]
                row["flops"] = count_flops(own.pipeline, given[0]) or None
                row["peak_memory"] = peak_memory(own.pipeline, given)
                prepared[row["name"]] = own
        except Exception as error:
            row["errors"].append(f"not timed: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    timings = measure_together(
        {name: own.pipeline.detector for name, own in prepared.items()},
        {name: own.images for name, own in prepared.items()},
        execution,
        warmup=config.evaluation.timing_warmup,
        **config.timing,
    )
    for row in rows:
        row["timing"] = timing = timings.get(row["name"])
        row["stages"] = stage_columns(timing["stages_ms"]) if timing else None
        variant = _variant(prepared[row["name"]]) if row["name"] in prepared else None
        if variant is not None and variant not in row["name"]:
            row["name"] = f"{row['name']} ({variant})"


def _variant(prepared: Prepared) -> str | None:
    return getattr(getattr(prepared.pipeline.detector, "roi_head", None), "variant", None)


def _prepare(checkpoint: str, contender: Contender, config: Config, execution: Execution) -> tuple[Prepared, int]:
    """The detector of a checkpoint with its images, and its number of parameters, counted before norms are folded."""
    own = plain(contender.jobs[0])  # a training's own config, which names its parts
    saved = load_checkpoint(checkpoint, trust=[*names_of(config.trust), *named_in(own)])
    data = merge_data(contender.jobs[0].data, saved.data_config, saved.trust)
    detector = build_from_checkpoint(saved)
    annotations = read_test_split(data, None, saved.classes, task_of(detector))
    source = build_source(saved, for_any_image=False)
    split = with_proposals(annotations, source, repair=data["repair"], **config.proposal_cache)
    parameters = count_parameters(detector)
    detector = place_for_inference(detector, execution)
    pipeline = Pipeline(detector, execution)
    timed, shown = (timed_images(split, count) for count in (config.evaluation.timing_images, config.pictures))
    return Prepared(pipeline, annotations, timed, shown), parameters


def _save_pictures(prepared: Prepared, folder: Path, name: str) -> list[str]:
    """Write what the detector finds in the shown images, beside what there is; paths from `folder`."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    annotations, task = prepared.annotations, task_of(prepared.pipeline.detector)
    for index, image in zip(spread(len(annotations), len(prepared.shown)), prepared.shown, strict=True):
        with task.accumulator(prepared.pipeline.detector, annotations) as accumulator:
            accumulator.add([index], [prepared.pipeline(image)[1]])
        results = accumulator.merge([accumulator.part()])
        paths.append(f"pictures/{name}_{len(paths)}.jpg")
        task.draw_example(read_image(image.path), results, annotations, index).save(folder / paths[-1], quality=90)
    return paths
