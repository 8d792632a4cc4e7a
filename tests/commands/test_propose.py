"""The verb: cache, restart, processes, report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from detkit.commands import cli
from detkit.data.proposals import Proposals
from detkit.data.synthetic.synthetic import read_synthetic
from detkit.proposal.cache import Job, parameter_hash, propose_file
from detkit.proposal.proposal_file import read_proposals
from detkit.proposal.report import format_report, measure_proposals, plot_proposals
from detkit.proposal.selective_search import SelectiveSearch
from detkit.proposal.split_proposals import propose_split

SINGLE = SelectiveSearch(colour_spaces=["hsv"], scales=[100], strategies=["CTSF"])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "set"
    return read_synthetic(root, "train", num_train=4, num_val=2, num_test=0, size=(96, 128))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return Job(str(path), (30, 40))


class Counting:
    """Proposes the whole image, and counts how often it is asked."""

    calls = 0

    def __call__(self, image):
        self.calls += 1
        return np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)


def test_the_same_bytes_are_proposed_for_once(picture, tmp_path):
    propose, folder = Counting(), tmp_path / "cache"
    first = propose_file(picture, propose=propose, folder=folder)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "picture.png").read_bytes())
    again = propose_file(Job(str(copy), (0, 0)), propose=propose, folder=folder)
    assert propose.calls == 1
    assert again.boxes.tolist() == first.boxes.tolist() == [[0, 0, 40, 30]]
    assert again.seconds == first.seconds
    propose_file(picture, propose=propose, folder=None)
    assert propose.calls == 2


def test_a_damaged_cache_is_made_anew(picture, tmp_path):
    propose, folder = Counting(), tmp_path / "cache"
    propose_file(picture, propose=propose, folder=folder)
    [cached] = folder.iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    assert len(propose_file(picture, propose=propose, folder=folder).boxes) == 1
    propose_file(picture, propose=propose, folder=folder)
    assert propose.calls == 2


def test_an_unreadable_image_gets_no_boxes(tmp_path):
    outcome = propose_file(Job(str(tmp_path / "none.png"), (0, 0)), propose=Counting(), folder=tmp_path / "cache")
    assert outcome.boxes.shape == (0, 4) and np.isnan(outcome.seconds)
    assert "none.png" in (outcome.fault or "")


@pytest.mark.parametrize(("declared", "box"), [((30, 40), [0, 0, 40, 30]), ((40, 30), [0, 0, 30, 40])])
def test_boxes_are_in_the_frame_of_the_annotation(picture, tmp_path, declared, box):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored as 40x30, shown as 30x40
    Image.open(picture.path).save(turned, exif=exif)
    assert propose_file(Job(str(turned), declared), propose=Counting(), folder=None).boxes.tolist() == [box]


def test_the_hash_depends_on_every_parameter():
    hashes = {
        parameter_hash(parameters)
        for parameters in (
            SINGLE.parameters(),
            replace(SINGLE, seed=1).parameters(),
            SelectiveSearch().parameters(),
            SelectiveSearch(sigma=0.9).parameters(),
        )
    }
    assert len(hashes) == 4
    assert parameter_hash({"a": 1, "b": 2}) == parameter_hash({"b": 2, "a": 1})


def test_goes_on_where_it_stopped(scenes, tmp_path):
    part, _ = propose_split(scenes.subset([2, 0]), SINGLE, num_workers=0, cache_dir=tmp_path)
    whole, faults = propose_split(scenes, SINGLE, num_workers=0, cache_dir=tmp_path)
    assert not faults and list(whole.image_ids) == list(scenes.image_ids)
    assert (whole.seconds[[2, 0]] == part.seconds).all()  # not measured again
    np.testing.assert_array_equal(whole.of(2), part.of(0))
    afresh, _ = propose_split(scenes, SINGLE, num_workers=0, cache_dir=None)
    np.testing.assert_array_equal(afresh.boxes, whole.boxes)


def test_report_by_hand(scenes):
    """Every object itself is proposed, after a box that covers nothing."""
    boxes = [np.concatenate([[[0, 0, 1, 1]], scenes.objects(index).boxes]) for index in range(len(scenes))]
    proposals = Proposals.pack(list(scenes.image_ids), boxes, [0.5] * len(scenes), method="truth", source="here")
    report = measure_proposals(proposals, scenes)
    written = report.to_dict()
    assert next(iter(written["by_count"])) == "1" and written["by_count"]["1"]["recall_50"] == 0
    last = list(written["by_count"].values())[-1]
    assert last["recall_100"] == last["ABO_all_objects"] == last["MABO"] == 1
    assert written["num_objects"] == (~scenes.difficult).sum()
    assert written["seconds_per_image"] == {"mean": 0.5, "p50": 0.5, "p95": 0.5}
    json.dumps(written, allow_nan=False)
    assert "0.500 s per image" in format_report(report)
    left, right = plot_proposals(report).axes
    assert left.get_xlabel() == "IoU" and right.get_xlabel() == "proposals per image"


def test_report_of_nothing(scenes):
    report = measure_proposals(Proposals.pack([], [], method="none", source="here"), scenes.subset([]))
    assert report.recall.proposals_per_image is None and report.recall.by_count[1].at_iou[0.5] is None
    format_report(report)
    plot_proposals(report)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = ("data.reader.num_train=2", "data.reader.num_val=1", "data.reader.num_test=1", "data.reader.size=[64,80]")
    return lambda *words: cli.main(["propose", "data=synthetic", "data.root=set", *numbers, *words])


def test_the_verb_writes_a_file_a_report_and_a_picture_of_each_split(in_folder, tmp_path, capsys):
    assert in_folder("num_workers=0", "proposal.scales=[100]") == 0
    folder = tmp_path / "outputs/proposals/synthetic/selective_search_fast"
    assert {path.name for path in folder.iterdir()} == {
        f"{split}.{suffix}" for split in ("train", "val", "test") for suffix in ("npz", "json", "png")
    }
    made = read_proposals(folder / "train.npz")
    assert len(made) == 2 and made.parameters["scales"] == [100] and np.isfinite(made.seconds).all()
    assert json.loads((folder / "train.json").read_text())["num_images"] == 2
    assert "recall@.5" in capsys.readouterr().out

    words = ("split=train", "output=again", "proposal=from_file")
    assert in_folder(*words, f"proposal.path={folder / 'train.npz'}") == 0
    np.testing.assert_array_equal(read_proposals("again/train.npz").boxes, made.boxes)
    assert in_folder(*words, f"proposal.path={folder / 'val.npz'}") == 2
    assert "has no proposals for 2 of 2 images" in capsys.readouterr().err


def test_the_verb_names_what_is_wrong(in_folder, capsys):
    assert in_folder("proposal=from_file") == 2
    assert "proposal.path" in capsys.readouterr().err
    assert in_folder("proposal.strategies=[CX]") == 2
    assert "proposal.strategies: 'CX'" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_change_nothing(scenes, tmp_path):
    alone, _ = propose_split(scenes, SINGLE, num_workers=0, cache_dir=None)
    for workers in (1, 2):
        found, _ = propose_split(scenes, SINGLE, num_workers=workers, cache_dir=tmp_path / str(workers))
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.offsets, alone.offsets)
