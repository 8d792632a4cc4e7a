from __future__ import annotations

import pickle
from collections import Counter
from itertools import chain

import albumentations
import numpy as np
import pytest
import torch

from detkit.core.errors import UserError
from detkit.core.structures import Batch, Target
from detkit.data.augment.transform import Augment
from detkit.data.dataset import DetectionDataset, Sample
from detkit.data.formats.voc.voc import read_voc
from detkit.data.loader import PortableTargets, ResumableBatchSampler, build_loader, collate
from detkit.image.preprocess import ShortSide


def sample(height: int, width: int, num_boxes: int = 1) -> Sample:
    target: Target = {
        "boxes": torch.rand(num_boxes, 4),
        "labels": torch.zeros(num_boxes, dtype=torch.int64),
        "difficult": torch.zeros(num_boxes, dtype=torch.bool),
        "image_id": f"{height}x{width}",
        "original_size": (2 * height, 2 * width),
    }
    return Sample(torch.full((3, height, width), 7, dtype=torch.uint8), target)


def test_collate_pads_right_and_bottom_with_zero() -> None:
    batch = collate([sample(5, 9), sample(8, 3, num_boxes=0)], pad_multiple=4)
    assert batch.images.shape == (2, 3, 8, 12)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous()
    assert batch.sizes == [(5, 9), (8, 3)]
    assert batch.original_sizes == [(10, 18), (16, 6)]
    assert batch.image_ids == ["5x9", "8x3"]
    for image, (height, width) in zip(batch.images, batch.sizes, strict=True):
        assert (image[:, :height, :width] == 7).all()
        assert int(image.sum()) == 7 * 3 * height * width
    assert collate([sample(5, 9)]).images.shape == (1, 3, 5, 9)


def test_targets_cross_processes_without_tensors() -> None:
    targets = PortableTargets([sample(5, 9).target, sample(8, 3, num_boxes=0).target])
    moved = pickle.loads(pickle.dumps(targets))
    assert isinstance(moved, PortableTargets)
    for one, other in zip(targets, moved, strict=True):
        assert one.keys() == other.keys()
        torch.testing.assert_close(other["boxes"], one["boxes"])
        assert other["difficult"].dtype == torch.bool
        assert other["image_id"] == one["image_id"]


def batches(sampler: ResumableBatchSampler) -> list[list[int]]:
    return [[key.image for key in batch] for batch in sampler]


@pytest.mark.parametrize("num_samples", [0, 1, 7, 8, 9])
def test_an_epoch_is_a_permutation(num_samples: int) -> None:
    sampler = ResumableBatchSampler(num_samples, 4, seed=1, shuffle=True)
    found = batches(sampler)
    assert sorted(chain(*found)) == list(range(num_samples))
    assert len(found) == len(sampler) == -(-num_samples // 4)
    assert all(len(batch) == 4 for batch in found[:-1])


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = ResumableBatchSampler(50, 4, seed=seed, shuffle=True)
        sampler.set_position(epoch)
        assert {key.epoch for batch in sampler for key in batch} == {epoch}
        return batches(sampler)

    assert order(0, 3) == order(0, 3)
    assert len({str(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


@pytest.mark.parametrize("first", [0, 1, 5, 13])
def test_a_position_skips_exactly(first: int) -> None:
    groups = np.arange(50) % 3 == 0
    sampler = ResumableBatchSampler(50, 4, seed=0, shuffle=True, groups=groups)
    sampler.set_position(7)
    whole = list(sampler)
    sampler.set_position(7, first)
    assert list(sampler) == whole[first:]


def test_sides_are_drawn_for_ten_batches_at_a_time_whatever_the_position() -> None:
    def sides(first: int, seed: int = 0) -> list[int | None]:
        sampler = ResumableBatchSampler(100, 2, seed=seed, shuffle=True, multiscale=[320, 416, 608])
        sampler.set_position(3, first)
        batches = [{key.side for key in batch} for batch in sampler]
        assert all(len(batch) == 1 for batch in batches)
        return [batch.pop() for batch in batches]

    whole = sides(0)
    assert all(len(set(whole[start : start + 10])) == 1 for start in range(0, 50, 10))
    assert len(set(whole)) > 1 and set(whole) <= {320, 416, 608}
    assert sides(17) == whole[17:] and sides(0, seed=1) != whole
    plain = ResumableBatchSampler(10, 2, seed=0, shuffle=True)
    assert {key.side for batch in plain for key in batch} == {None}


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("num_samples", [2, 23, 40])
def test_ranks_in_training_have_equal_numbers_of_batches(num_samples: int, world_size: int) -> None:
    ranks = [
        ResumableBatchSampler(num_samples, 4, seed=0, shuffle=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = [batches(sampler) for sampler in ranks]
    assert len({len(part) for part in found}) == 1
    counts = Counter(index for part in found for batch in part for index in batch)
    assert sorted(counts) == list(range(num_samples))  # every image is seen
    repeated = sum(counts.values()) - num_samples
    assert repeated < 4 * world_size


@pytest.mark.parametrize("num_samples", [0, 1, 10])
def test_ranks_in_evaluation_share_without_repeats(num_samples: int) -> None:
    found = [
        list(chain(*batches(ResumableBatchSampler(num_samples, 4, seed=0, shuffle=False, rank=rank, world_size=3))))
        for rank in range(3)
    ]
    assert found == [list(range(rank, num_samples, 3)) for rank in range(3)]


def test_groups_do_not_mix() -> None:
    groups = np.array([0, 1] * 20 + [0] * 7)
    for drop_last in (False, True):
        sampler = ResumableBatchSampler(47, 4, seed=0, shuffle=True, groups=groups, drop_last=drop_last)
        found = batches(sampler)
        assert all(len({int(groups[index]) for index in batch}) == 1 for batch in found)
        assert len(list(chain(*found))) == (44 if drop_last else 47)
        kinds = [int(groups[batch[0]]) for batch in found]
        assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)  # shuffled through one another


def test_too_few_images_for_a_full_batch() -> None:
    with pytest.raises(UserError, match="3 images make no full batch of 4"):
        ResumableBatchSampler(3, 4, seed=0, shuffle=True, drop_last=True)


@pytest.fixture
def dataset(make_voc) -> DetectionDataset:
    box = ("cat", (11, 11, 30, 20), False)
    root = make_voc({f"wide{i}": [box] * (i % 3) for i in range(6)})
    make_voc({f"tall{i}": [box] for i in range(4)}, split="tall", size=(60, 40))
    annotations = read_voc(root, "train+tall", ["cat"])
    transforms = [
        albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5), albumentations.ColorJitter(p=0.5),
    ]  # fmt: skip
    return DetectionDataset(
        annotations, preprocess=ShortSide(short=32, pad_multiple=16), augment=Augment(transforms=transforms), seed=5
    )


def run(dataset: DetectionDataset, num_workers: int, epoch: int = 1, first: int = 0) -> list[Batch]:
    loader = build_loader(dataset, batch_size=3, shuffle=True, seed=5, num_workers=num_workers, aspect_grouping=True)
    loader.batch_sampler.set_position(epoch, first)  # type: ignore[union-attr]
    return list(loader)


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert [batch.image_ids for batch in one] == [batch.image_ids for batch in other]
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        for target, same in zip(a.targets or [], b.targets or [], strict=True):
            assert torch.equal(target["boxes"], same["boxes"])
            assert torch.equal(target["labels"], same["labels"])


def test_workers_change_nothing(dataset: DetectionDataset) -> None:
    torch.manual_seed(0)
    alone = run(dataset, 0)
    torch.manual_seed(1)
    assert_same(alone, run(dataset, 2))
    assert_same(alone[2:], run(dataset, 2, first=2))
    assert [batch.image_ids for batch in alone] != [batch.image_ids for batch in run(dataset, 0, epoch=2)]
    assert sum(len(batch) for batch in alone) == 10
    for batch in alone:
        assert len({height > width for height, width in batch.sizes}) == 1
        assert batch.images.shape[2] % 16 == batch.images.shape[3] % 16 == 0


def test_persistent_workers_follow_the_position(dataset: DetectionDataset) -> None:
    loader = build_loader(dataset, batch_size=3, shuffle=True, seed=5, num_workers=1, persistent=True)
    for epoch in range(2):
        loader.batch_sampler.set_position(epoch)  # type: ignore[union-attr]
        reference = build_loader(dataset, batch_size=3, shuffle=True, seed=5, num_workers=0)
        reference.batch_sampler.set_position(epoch)  # type: ignore[union-attr]
        assert_same(list(loader), list(reference))


def test_the_global_generator_is_left_alone(dataset: DetectionDataset) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        run(dataset, num_workers)
    assert torch.equal(before, torch.get_rng_state())


def test_no_images(dataset: DetectionDataset) -> None:
    empty = DetectionDataset(dataset.annotations.subset([]), preprocess=ShortSide())
    for shuffle in (True, False):
        loader = build_loader(empty, batch_size=3, shuffle=shuffle, seed=0, num_workers=0, aspect_grouping=True)
        assert list(loader) == []
        assert len(loader) == 0


def test_spawned_workers(dataset: DetectionDataset) -> None:
    loader = build_loader(dataset, batch_size=3, shuffle=True, seed=5, num_workers=1, aspect_grouping=True)
    loader.multiprocessing_context = "spawn"
    loader.batch_sampler.set_position(1)  # type: ignore[union-attr]
    assert_same(list(loader), run(dataset, 0))
