"""What is found in an image does not depend on the images that share its batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_voc import write_voc

from detkit.core.distributed import World
from detkit.core.structures import Target
from detkit.data.canvas import canvas_groups, run_in_order, split_by_canvas
from detkit.data.dataset import Sample
from detkit.data.formats.voc.voc import read_voc
from detkit.data.loader import collate
from detkit.data.split import Split
from detkit.image.preprocess import ShortSide, Warp
from detkit.infer.detect import detect_split, evaluation_loader, place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.loaded_detector import LoadedDetector
from detkit.model.detector import Detector
from detkit.task.detection.task import DetectionTask

SIZES = ((60, 90), (90, 60), (60, 90), (64, 64), (90, 61), (60, 88), (64, 64), (70, 90), (60, 90))
SMALL = ("preprocess.short=64", "preprocess.max=128")
# Kernels add up in another order for another batch, which random weights enlarge; padding moves boxes by pixels.
EXECUTION = Execution(torch.device("cpu"))
BOX_PX, SCORE = 0.02, 1e-4
MODELS = [("model=faster_rcnn_light", *SMALL), ("model=fcos", *SMALL)]


@pytest.fixture(scope="module")
def many_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split train: nine images of noise of six sizes; the annotation of one is wrong, of one it says nothing."""
    root = tmp_path_factory.mktemp("sizes")
    names = []
    for index, size in enumerate(SIZES):
        write_voc(root, {f"i{index}": [("dot", (3, 4, 40, 50), False)]}, f"s{index}", size=size)
        names.append(f"i{index}")
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names) + "\n")
    for index, (before, after) in {1: ("<width>", "<width>1"), 3: ("<size>", "<none>")}.items():
        path = root / "Annotations" / f"i{index}.xml"
        path.write_text(path.read_text().replace(before, after).replace("</size>", after.replace("<", "</")
                        if after == "<none>" else "</size>"))  # fmt: skip
    return root


def ready(model: Detector) -> Detector:
    """With scores that are high and differ, as random weights alone would not give."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    model.postprocess.score_threshold = 0.0  # type: ignore[union-attr,assignment]
    return model


@pytest.mark.parametrize("overrides", MODELS, ids=lambda one: one[0])
def test_a_split_is_measured_alike_at_any_batch_size(
    build: Callable[..., Detector], many_sizes: Path, overrides: tuple[str, ...]
) -> None:
    detector = place_for_inference(ready(build(*overrides)), EXECUTION)
    annotations = read_voc(many_sizes, "train", ["dot", "b", "c"])
    world = World(0, 1, torch.device("cpu"))
    found = []
    for batch_size, num_workers in ((1, 0), (2, 0), (4, 1), (8, 0)):
        loader = evaluation_loader(
            DetectionTask(),
            Split(annotations),
            detector.preprocess,
            world,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        found.append(detect_split(detector, loader, world, EXECUTION))
    assert len(found[0]) > 20
    for other in found[1:]:
        np.testing.assert_array_equal(other.image, found[0].image)
        np.testing.assert_array_equal(other.labels, found[0].labels)
        np.testing.assert_allclose(other.boxes, found[0].boxes, atol=BOX_PX)
        np.testing.assert_allclose(other.scores, found[0].scores, atol=SCORE)


@pytest.mark.parametrize(
    ("overrides", "runtime"),
    [(MODELS[0], "eager"), (MODELS[1], "eager"), pytest.param(MODELS[1], "onnx", marks=pytest.mark.slow)],
)
def test_predict_finds_alike_in_any_batch(
    build: Callable[..., Detector], overrides: tuple[str, ...], runtime: str
) -> None:
    detector = LoadedDetector(ready(build(*overrides)), classes=["a", "b", "c"], runtime=runtime)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    alone = [detector.predict(image) for image in images]
    assert sum(map(len, alone)) > 20
    for one, other in zip(alone, detector.predict(images, batch_size=4), strict=True):
        torch.testing.assert_close(other.boxes, one.boxes, atol=BOX_PX, rtol=0)
        torch.testing.assert_close(other.scores, one.scores, atol=SCORE, rtol=0)
        assert torch.equal(other.labels, one.labels)
    if runtime == "eager":  # the rule above can fail: this is what sharing a larger canvas does
        items = [
            Sample(
                torch.from_numpy(detector.preprocess(image)).permute(2, 0, 1), {"image_id": "", "original_size": size}
            )
            for image, size in zip(images, SIZES, strict=True)
        ]
        shared = detector.detector.predict(collate(items, detector.preprocess.pad_multiple))
        gaps = [
            abs(one.scores[0] - other.scores[0]).item() if len(one) and len(other) else 1.0
            for one, other in zip(alone, shared, strict=True)
        ]
        assert max(gaps) > 10 * SCORE


def test_batches_hold_one_canvas_and_are_full(many_sizes: Path) -> None:
    annotations = read_voc(many_sizes, "train", ["dot"])
    preprocess = ShortSide(short=64, max=128, pad_multiple=32)
    assert (annotations.sizes == 0).any()
    world = World(0, 1, torch.device("cpu"))
    loader = evaluation_loader(DetectionTask(), Split(annotations), preprocess, world, batch_size=2, num_workers=0)
    batches = list(loader)
    assert sorted(name for batch in batches for name in batch.image_ids) == sorted(annotations.image_ids)
    for batch in batches:
        assert {(-(-h // 32) * 32, -(-w // 32) * 32) for h, w in batch.sizes} == {tuple(batch.images.shape[2:])}
    assert max(len(batch) for batch in batches) == 2
    assert canvas_groups(annotations, Warp()) is None


def samples(*sizes: tuple[int, int]) -> list[Sample]:
    return [
        Sample(torch.full((3, *size), index + 1, dtype=torch.uint8), Target(image_id=str(index), original_size=size))
        for index, size in enumerate(sizes)
    ]


def test_a_batch_of_several_canvases_is_cut() -> None:
    items = samples((10, 20), (20, 10), (9, 17))
    parts = list(split_by_canvas(collate(items, 8), 8))
    assert [part.image_ids for part in parts] == [["0", "2"], ["1"]]
    for part, wanted in zip(parts, ([items[0], items[2]], [items[1]]), strict=True):
        assert torch.equal(part.images, collate(wanted, 8).images)
        assert part.sizes == [tuple(one.image.shape[1:]) for one in wanted]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_results_keep_their_order_and_little_is_held(batch_size: int) -> None:
    rng = np.random.default_rng(batch_size)
    items = samples(*((8 * int(side), 8) for side in rng.choice([1, 1, 1, 2, 3], 60)))
    taken, run = [], []

    def source() -> Any:
        for item in items:
            taken.append(item)
            yield item

    def answer(batch: list[Sample]) -> list[str]:
        run.append(len(batch))
        assert len({one.image.shape for one in batch}) == 1
        return [one.target["image_id"] for one in batch]

    for number, found in enumerate(run_in_order(source(), 8, batch_size, answer)):
        assert found == str(number)
        assert len(taken) - number <= 4 * batch_size
    assert number == 59
    assert max(run) == batch_size
