from __future__ import annotations

import pickle
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.annotation_builder import AnnotationBuilder, RawObject
from detkit.data.annotations import Annotations
from detkit.data.augment.mosaic import Mosaic
from detkit.data.augment.transform import Augment
from detkit.data.dataset import DetectionDataset, Key, Sample
from detkit.data.formats.coco.coco import read_coco
from detkit.data.formats.voc.voc import read_voc
from detkit.data.loader import collate
from detkit.data.proposals import Proposals
from detkit.image.preprocess import Letterbox, ShortSide, Warp
from detkit.image.read import read_image

SAME = Warp(height=40, width=60)  # the size of the pictures: resizes nothing
CAT = ("cat", (11, 11, 30, 20), False)
HARD = ("dog", (1, 1, 20, 40), True)


def read(root: Path) -> Annotations:
    return read_voc(root, "train", ["cat", "dog"])


def assert_contract(sample: Sample) -> None:
    image, target = sample
    assert image.dtype == torch.uint8
    _, height, width = image.shape
    boxes = target["boxes"]
    assert boxes.dtype == torch.float32
    assert boxes.shape == (len(target["labels"]), 4)
    assert target["labels"].dtype == torch.int64
    assert target["difficult"].dtype == torch.bool
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_a_sample_is_the_picture_and_its_objects(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT, HARD], "b": []}))
    dataset = DetectionDataset(annotations, preprocess=SAME)
    sample = dataset[0]
    assert_contract(sample)
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), read_image(annotations.image_paths[0]))
    assert sample.target["boxes"].tolist() == [[10, 10, 30, 20], [0, 0, 20, 40]]
    assert sample.target["labels"].tolist() == [0, 1]
    assert sample.target["difficult"].tolist() == [False, True]
    assert sample.target["image_id"] == "a"
    assert sample.target["original_size"] == (40, 60)
    assert "faults" not in sample.target
    empty = dataset[1]
    assert_contract(empty)
    assert empty.target["boxes"].shape == (0, 4)


@pytest.mark.parametrize("preprocess", [ShortSide(short=33, max=50), Warp(height=7, width=99), Letterbox(size=31)])
def test_boxes_are_in_the_frame_of_the_input(make_voc, preprocess) -> None:
    sample = DetectionDataset(read(make_voc({"a": [CAT, HARD]})), preprocess=preprocess)[0]
    assert_contract(sample)
    back = preprocess.to_original(sample.target["boxes"], sample.target["original_size"])
    np.testing.assert_allclose(back, [[10, 10, 30, 20], [0, 0, 20, 40]], atol=1e-3)


def test_difficult(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT, HARD]}))
    flags = {
        policy: DetectionDataset(annotations, preprocess=SAME, difficult=policy)[0].target["difficult"].tolist()
        for policy in ("keep", "drop", "ignore")
    }
    assert flags == {"keep": [False, False], "drop": [False], "ignore": [False, True]}
    assert annotations.difficult.tolist() == [False, True]
    with pytest.raises(UserError, match=r"data.difficult=maybe: choose one of keep, drop, ignore"):
        DetectionDataset(annotations, preprocess=SAME, difficult="maybe")  # type: ignore[arg-type]


def test_repair(make_voc) -> None:
    beyond, twice, flat = ("cat", (0, 1, 70, 40), False), CAT, ("cat", (10, 9, 9, 12), False)
    annotations = read(make_voc({"a": [beyond, CAT, twice, flat]}))
    clipped = DetectionDataset(annotations, preprocess=SAME)[0]
    assert_contract(clipped)
    assert clipped.target["boxes"].tolist() == [[0, 0, 60, 40], [10, 10, 30, 20]]
    assert sorted(clipped.target["faults"]) == [
        ("duplicate box", "a"),
        ("out-of-range box", "a"),
        ("zero-size box", "a"),
    ]
    dropped = DetectionDataset(annotations, preprocess=SAME, repair="drop")[0]
    assert dropped.target["boxes"].tolist() == [[10, 10, 30, 20]]
    with pytest.raises(UserError, match=r"image a has 1 zero-size box, 1 out-of-range box, 1 duplicate box"):
        DetectionDataset(annotations, preprocess=SAME, repair="error")[0]


def test_unreadable_images(make_voc) -> None:
    root = make_voc({"a": [CAT], "b": [CAT, HARD], "c": []})
    annotations = read(root)
    (root / "JPEGImages" / "b.png").write_bytes(b"no picture")
    stand_in = DetectionDataset(annotations, preprocess=SAME)[1]
    assert stand_in.target["image_id"] == "c"
    assert stand_in.target["faults"] == (("unreadable image", "b"),)
    blank = DetectionDataset(annotations, preprocess=SAME, unreadable="blank")[1]
    assert blank.target["image_id"] == "b"
    assert len(blank.target["boxes"]) == 2
    assert blank.image.max() == 0
    with pytest.raises(UserError, match=r"cannot read image .*b.png"):
        DetectionDataset(annotations, preprocess=SAME, repair="error")[1]
    (root / "JPEGImages" / "c.png").unlink()
    assert DetectionDataset(annotations, preprocess=SAME)[1].target["image_id"] == "a"
    (root / "JPEGImages" / "a.png").unlink()
    with pytest.raises(UserError, match="none of its 3 images can be read"):
        DetectionDataset(annotations, preprocess=SAME)[1]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [((40, 60), (40, 60)), ((60, 40), (60, 40)), ((0, 0), (60, 40)), ((400, 600), (60, 40))],
    ids=["annotated as stored", "annotated upright", "not declared", "declared wrongly"],
)
def test_exif_frame_is_the_one_that_was_annotated(tmp_path: Path, declared, expected) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 40 x 60, shown 60 x 40
    Image.new("RGB", (60, 40)).save(tmp_path / "x.jpg", exif=exif)
    builder = AnnotationBuilder(["cat"], "test")
    box = RawObject("cat", (0, 0, expected[1], expected[0]))
    builder.add(path=tmp_path / "x.jpg", image_id="x", size=declared, objects=[box], where="x")
    annotations = builder.build()
    sample = DetectionDataset(annotations, preprocess=ShortSide(short=40))[0]
    assert sample.target["original_size"] == expected
    assert sample.image.shape[1:] == expected
    wrong = declared not in ((60, 40), (0, 0))
    assert sample.target.get("faults", ()) == ((("size mismatch", "x"),) if wrong else ())
    if wrong:
        with pytest.raises(UserError, match="but its annotation declares"):
            DetectionDataset(annotations, preprocess=SAME, repair="error")[0]


def test_a_sample_depends_on_seed_epoch_and_index_only(make_voc) -> None:
    annotations = read(make_voc({name: [CAT] for name in "abcdefgh"}))
    transforms = [albumentations.RandomCropFromBorders(p=1), albumentations.ColorJitter(p=1)]

    def samples(seed: int, keys: list[tuple[int, int]]) -> list[torch.Tensor]:
        dataset = DetectionDataset(annotations, preprocess=SAME, augment=Augment(transforms=transforms), seed=seed)
        return [dataset[key].image for key in keys]

    keys = [(index, epoch) for epoch in range(2) for index in range(8)]
    first, again = samples(0, keys), samples(0, keys[::-1])[::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[:8], first[8:], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, samples(1, keys), strict=True))
    assert torch.equal(samples(0, [(3, 0)])[0], first[3])


def test_pictures_are_mixed_where_the_key_says_so(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT], "b": [CAT, HARD], "c": [], "gone": [CAT]}))
    (Path(annotations.image_paths[3])).write_bytes(b"")
    plain = DetectionDataset(annotations, preprocess=Letterbox(size=64))
    mixing = DetectionDataset(annotations, preprocess=Letterbox(size=64), mix=Mosaic(size=48))
    assert torch.equal(mixing[Key(1, 3)].image, plain[1, 3].image)
    keys = [Key(index, epoch, mixed=True) for index in range(4) for epoch in range(8)]
    samples = [mixing[key] for key in keys]
    for key, sample in zip(keys, samples, strict=True):
        assert_contract(sample)
        assert sample.image.shape == (3, 64, 64)
        assert torch.equal(sample.image, mixing[key].image)
        assert not torch.equal(sample.image, plain[key.image].image)
    assert max(len(sample.target["boxes"]) for sample in samples) > 2
    assert any(sample.target["difficult"].any() for sample in samples)
    assert {fault for sample in samples for fault in sample.target.get("faults", ())} >= {("unreadable image", "gone")}


def test_the_key_may_ask_for_another_size(make_voc) -> None:
    dataset = DetectionDataset(read(make_voc({"a": [CAT]})), preprocess=Letterbox(size=60))
    large, small = dataset[Key(0, side=90)], dataset[Key(0, side=30)]
    assert large.image.shape == (3, 90, 90) and small.image.shape == (3, 30, 30)
    assert torch.allclose(large.target["boxes"], 3 * small.target["boxes"], atol=1.5)


def test_mixing_and_proposals_do_not_go_together(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT]}))
    regions = Proposals.pack(
        ["a"], [np.array([[1, 1, 20, 20]], np.float32)], [0.0], method="test", parameters={}, source="test"
    )
    with pytest.raises(UserError, match=r"multi_image=\.\.\. and proposal=\.\.\."):
        DetectionDataset(annotations, preprocess=SAME, proposals=regions, mix=Mosaic(size=48))


def test_it_travels_to_workers(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT], "gone": []}))
    flip = Augment(transforms=[albumentations.HorizontalFlip(p=1)])
    dataset = DetectionDataset(annotations, preprocess=SAME, augment=flip)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0].image, dataset[0].image)
    assert len(copy) == 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("reader", "root", "split"),
    [
        (read_voc, "bccd", "test"),
        (read_voc, "raccoon", "all"),
        (read_voc, "voc2012_100/VOC2012", "val"),
        (read_coco, "coco33", "instances"),
    ],
)
def test_real_sets_give_sound_samples(shared_data: Path, reader, root: str, split: str) -> None:
    annotations = reader(shared_data / root, split)
    dataset = DetectionDataset(annotations, preprocess=ShortSide(short=120, max=200))
    samples = [dataset[index] for index in range(len(dataset))]
    for sample in samples:
        assert_contract(sample)
    faults = [kind for sample in samples for kind in sample.target.get("faults", ())]
    assert (
        len(annotations.boxes) - len(faults) <= sum(len(s.target["labels"]) for s in samples) <= len(annotations.boxes)
    )


def test_proposals_move_with_the_picture(make_voc) -> None:
    annotations = read(make_voc({"a": [CAT], "b": []}))
    regions = [np.array([[10, 10, 30, 20], [0, 0, 60, 40]], np.float32), np.zeros((0, 4), np.float32)]
    proposals = Proposals.pack(["a", "b"], regions, method="hand", source="here")
    augment = Augment(transforms=[albumentations.HorizontalFlip(p=1)])
    twice = Warp(height=80, width=120)
    dataset = DetectionDataset(annotations, preprocess=twice, augment=augment, proposals=proposals)
    first, second = dataset[0], dataset[1]
    assert torch.equal(first.target["proposals"][:1], first.target["boxes"])  # the one that was the object still is
    assert first.target["proposals"].tolist() == [[60, 20, 100, 40], [0, 0, 120, 80]]
    assert second.target["proposals"].shape == (0, 4)
    batch = pickle.loads(pickle.dumps(collate([first, second])))
    assert batch.proposals is not None and batch.targets is not None
    assert [len(boxes) for boxes in batch.proposals] == [2, 0]
    assert all("proposals" not in target for target in batch.targets)
    assert dataset.proposals is not None and dataset.proposals.of(0).tolist() == regions[0].tolist()


@pytest.mark.parametrize("flip", [False, True], ids=["alone", "flipped"])
def test_pictures_decoded_smaller_keep_their_boxes(make_voc, flip: bool) -> None:
    root = make_voc({"a": [("cat", (101, 51, 300, 250), False)]}, size=(400, 600), suffix=".jpg")
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[50:250, 100:300] = 255
    Image.fromarray(pixels).save(root / "JPEGImages" / "a.jpg")
    small = Warp(height=50, width=50, decode="reduced")
    shapes: list[tuple[int, ...]] = []

    def decoder(path: Path, **how: object) -> np.ndarray:
        image = read_image(path, **how)  # type: ignore[arg-type]
        shapes.append(image.shape[:2])
        return image

    regions = Proposals.pack(["a"], [np.array([[100, 50, 300, 250]], np.float32)], method="hand", source="here")
    augment = Augment(transforms=[albumentations.HorizontalFlip(p=1)]) if flip else None
    sample = DetectionDataset(read(root), preprocess=small, augment=augment, proposals=regions, read=decoder)[0]
    assert shapes == [(100, 150) if flip else (50, 75)]  # a quarter leaves room for crops, an eighth is enough
    assert sample.target["original_size"] == (400, 600)
    (box,), (region,) = sample.target["boxes"].tolist(), sample.target["proposals"].tolist()
    assert box == region
    rows, columns = torch.nonzero(sample.image[0] > 127, as_tuple=True)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, seen, atol=1)
