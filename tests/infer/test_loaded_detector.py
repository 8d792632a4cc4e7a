"""`detkit.load` and what it returns: every kind of input gives the same boxes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import detkit
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.store import save_checkpoint
from detkit.core.errors import UserError
from detkit.core.structures import Detections
from detkit.image.preprocess import ShortSide
from detkit.infer.loaded_detector import LoadedDetector, as_rgb
from detkit.model.detector import Detector


class BrightHalf(Detector):
    """Finds the bounding box of white pixels (score 0.9, label 1) and the whole image (score 0.3, label 0)."""

    def __init__(self, preprocess) -> None:
        super().__init__(num_classes=2, preprocess=preprocess, mean=(0, 0, 0), std=(1, 1, 1))
        self.batch_sizes: list[int] = []

    def predict(self, batch):
        assert batch.targets is None
        assert not torch.is_grad_enabled()
        self.batch_sizes.append(len(batch))
        found = []
        for image, (h, w), original in zip(batch.images, batch.sizes, batch.original_sizes, strict=True):
            rows, columns = torch.nonzero(image[0, :h, :w] > 127, as_tuple=True)
            bright = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes = torch.tensor([bright, [0, 0, w, h]], dtype=torch.float32)
            boxes = self.preprocess.to_original(boxes, original)
            found.append(Detections(boxes, torch.tensor([0.9, 0.3]), torch.tensor([1, 0])))
        return found


@pytest.fixture
def detector() -> LoadedDetector:
    return LoadedDetector(BrightHalf(ShortSide(short=50, max=200, pad_multiple=32)), classes=["all", "white"])


@pytest.fixture
def scene() -> np.ndarray:
    """[100, 160, 3], white in x 40..120, y 20..60."""
    image = np.zeros((100, 160, 3), np.uint8)
    image[20:60, 40:120] = 255
    return image


def test_every_kind_of_image_gives_the_same_boxes(detector, scene, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(scene).save(path)
    tensor = torch.from_numpy(scene).permute(2, 0, 1)
    for image in (path, str(path), scene, Image.fromarray(scene), tensor, tensor / 255):
        found = detector.predict(image)
        assert isinstance(found, Detections)
        torch.testing.assert_close(found.boxes, torch.tensor([[40.0, 20, 120, 60], [0, 0, 160, 100]]))
        assert [found.name(label) for label in found.labels.tolist()] == ["white", "all"]


def test_boxes_of_a_file_that_is_decoded_smaller_are_in_its_pixels(scene, tmp_path):
    path = tmp_path / "scene.jpg"
    Image.fromarray(scene.repeat(4, axis=0).repeat(4, axis=1)).save(path)
    model = BrightHalf(ShortSide(short=50, max=200, decode="reduced"))
    assert model.preprocess.read(path)[0].shape == (50, 80, 3)
    found = LoadedDetector(model, classes=["all", "white"]).predict([path, path], batch_size=2)
    for one in found:
        np.testing.assert_allclose(one.boxes, [[160, 80, 480, 240], [0, 0, 640, 400]], atol=8)


def test_a_sequence_gives_a_list_in_order(detector, scene):
    found = detector.predict([scene, scene[:, ::-1].copy(), scene], batch_size=2)
    assert [one.boxes[0, 0].item() for one in found] == [40, 40, 40]
    assert detector.detector.batch_sizes == [2, 1]
    assert detector.predict(np.stack([scene, scene]))[1].boxes[0].tolist() == [40, 20, 120, 60]
    assert detector.predict([]) == []


def test_images_of_different_sizes_share_a_batch(detector, scene):
    tall = np.ascontiguousarray(scene.transpose(1, 0, 2))
    found = detector.predict([scene, tall], batch_size=2)
    torch.testing.assert_close(found[1].boxes[0], torch.tensor([20.0, 40, 60, 120]))


def test_the_score_threshold_filters(detector, scene):
    assert detector.predict(scene, score_threshold=0.5).labels.tolist() == [1]
    assert len(detector.predict(scene, score_threshold=0.95)) == 0


def test_a_stream_reads_no_further_than_a_batch(detector, scene):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield scene

    stream = detector.stream(endless(), batch_size=2)
    next(stream)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((10, 10, 3), bool), "bool"),
        (np.zeros((10, 10, 2), np.uint8), r"\[10, 10, 2\]"),
        (np.zeros((3, 10, 10), np.uint8), "transpose"),
        (np.zeros((0, 10, 3), np.uint8), "no pixels"),
        (torch.zeros(3, 10, 0), "no pixels"),
        (Image.new("RGB", (0, 3)), "0 x 3"),
        (np.full((9, 9, 3), 256), "256..256: integers are 0..255"),
        (np.full((9, 9), -1, np.int16), "-1..-1"),
        (torch.full((3, 9, 9), 200.0), "200..200: floats are 0..1; divide by 255"),
        (torch.full((3, 9, 9), -2.0), "normalised"),
        (torch.full((3, 9, 9), torch.nan), "NaN"),
        (torch.zeros(10, 10, 3), "permute"),
        (7, "int"),
        ("no/such.jpg", "no/such.jpg"),
    ],
)
def test_what_is_no_image_is_named(detector, image, message):
    with pytest.raises(UserError, match=message):
        detector.predict([image])


def test_detections_are_json_ready_and_plot(detector, scene):
    found = detector.predict(scene)
    assert found.to_dict()[0] == {
        "box": [40.0, 20.0, 120.0, 60.0],
        "score": pytest.approx(0.9),
        "label": 1,
        "name": "white",
    }
    assert found.plot(scene).size == (160, 100)


def test_a_wrong_precision_is_answered_with_the_list():
    with pytest.raises(UserError, match="fp32, bf16, fp16"):
        LoadedDetector(BrightHalf(ShortSide()), classes=["a", "b"], precision="half")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, compose_train, build):
    """A run folder with an untrained small detector."""
    overrides = ["model=faster_rcnn_light", "data.root=unused"]
    config = {"model": OmegaConf.to_container(compose_train(*overrides).model, resolve=True)}
    detector = build(*overrides, num_classes=2)
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.pt"
    preprocess = detector.preprocess.to_dict()
    written = Checkpoint(model=detector.state_dict(), config=config, classes=["cat", "dog"], preprocess=preprocess)
    save_checkpoint(path, written)
    return path


def test_load_takes_a_file_or_a_run_folder(checkpoint, scene):
    first, second = detkit.load(checkpoint), detkit.load(checkpoint.parents[1], device="cpu")
    assert first.classes == ["cat", "dog"]
    assert first.preprocess == second.preprocess
    assert not first.detector.training
    found = [loaded.predict(scene) for loaded in (first, second)]
    assert torch.equal(found[0].boxes, found[1].boxes)


def test_other_settings_than_the_checkpoints(checkpoint, scene):
    own = detkit.load(checkpoint)
    other = detkit.load(
        checkpoint,
        preprocess={"side": 160, "decode": None},
        postprocess={"score_threshold": 0.0, "nms_iou": None, "max_detections": 3},
    )
    assert own.preprocess == ShortSide(short=320, max=533, pad_multiple=32)
    assert other.preprocess == ShortSide(short=160, max=round(533 / 2), pad_multiple=32)
    assert other.detector.postprocess.nms_iou == own.detector.postprocess.nms_iou
    assert len(other.predict(scene)) == 3


def test_settings_that_make_no_sense_are_named(checkpoint):
    for side in (0, "wide"):
        with pytest.raises(UserError, match=rf"preprocess\.side={side}"):
            detkit.load(checkpoint, preprocess={"side": side})
    with pytest.raises(UserError, match=r"preprocess\.decode=half: must be null or full or reduced"):
        detkit.load(checkpoint, preprocess={"decode": "half"})


def test_load_names_what_is_missing_or_no_checkpoint(tmp_path, checkpoint):
    text = tmp_path / "notes.pt"
    text.write_text("not a checkpoint")
    for path in (tmp_path / "none.pt", text, tmp_path):
        with pytest.raises(UserError, match=str(path)):
            detkit.load(path)


def test_load_runs_no_code_from_a_checkpoint(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["model"]["postprocess"] = {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    path = tmp_path / "evil.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"os\.system"):
        detkit.load(path)
    assert not (tmp_path / "ran").exists()


def test_importing_detkit_does_not_import_torch():
    code = "import sys, detkit, detkit.commands.cli; detkit.__version__; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_regions_from_outside_are_proposed_in_the_frame_of_the_image(scene):
    class WhatWasProposed(BrightHalf):
        def predict(self, batch):
            assert batch.proposals is not None
            boxes = [
                self.preprocess.to_original(boxes, size)
                for boxes, size in zip(batch.proposals, batch.original_sizes, strict=True)
            ]
            return [Detections(one, torch.ones(len(one)), torch.zeros(len(one), dtype=torch.int64)) for one in boxes]

        def propose(self, batch):
            return [found.boxes for found in self.predict(batch)]

    def source(image):
        return np.array([[8, 4, image.shape[1] / 2, 50]], np.float32)

    detector = LoadedDetector(
        WhatWasProposed(ShortSide(short=50, max=200, pad_multiple=32)), classes=["a", "b"], source=source
    )
    torch.testing.assert_close(detector.predict(scene).boxes, torch.tensor([[8.0, 4, 80, 50]]))
    torch.testing.assert_close(detector.propose(scene), torch.tensor([[8.0, 4, 80, 50]]))


def test_a_detector_without_regions_says_so(detector, scene):
    with pytest.raises(UserError, match="only two-stage detectors"):
        detector.propose(scene)


def test_every_kind_of_array_is_the_same_image(detector, scene):
    grey, clear = scene[:, :, 0], np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])
    wide = scene.astype(np.uint16) * 257
    for image in (
        grey,
        clear,
        wide,
        scene / 255,
        scene.astype(np.int64),
        scene.astype(np.int16),
        grey[:, :, None],
        torch.from_numpy(grey),
        torch.from_numpy(grey)[None].half() / 255,
        torch.from_numpy(grey)[None].int(),
    ):
        np.testing.assert_array_equal(as_rgb(image), scene)


def test_classes_are_filtered_by_name(detector, scene):
    assert detector.predict(scene, classes=["white"]).labels.tolist() == [1]
    assert detector.predict(scene, classes="all").labels.tolist() == [0]
    with pytest.raises(UserError, match=r"classes=wihte: .*did you mean 'white'"):
        detector.predict(scene, classes=["wihte"])


@pytest.mark.parametrize("wrong", [{"score_threshold": 50}, {"batch_size": 0}, {"batch_size": 1.5}])
def test_a_value_that_cannot_be_is_told_at_the_call(detector, scene, wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
        detector.stream([scene], **wrong)
