"""Files of proposals: round trip, what other programs write, and what is wrong with a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.io import savemat

from detkit.core.errors import UserError
from detkit.data.proposals import Proposals
from detkit.proposal.proposal_file import read_proposals, write_proposals

BOXES = [np.array([[0, 0, 10, 12.5], [3, 4, 5, 6]]), np.zeros((0, 4)), np.array([[1, 1, 2, 2]])]


def example(**changes):
    values = {"method": "by hand", "parameters": {"k": [50, 100]}, "source": "here"} | changes
    return Proposals.pack(["a", "ü/2", "c"], BOXES, [0.5, 0.25, float("nan")], **values)


def test_npz_round_trip(tmp_path):
    path = tmp_path / "deep" / "val.npz"
    write_proposals(path, example())
    read = read_proposals(path)
    assert list(read.image_ids) == ["a", "ü/2", "c"] and len(read) == 3
    for index, boxes in enumerate(BOXES):
        np.testing.assert_array_equal(read.of(index), boxes.astype(np.float32))
    np.testing.assert_array_equal(read.seconds, [0.5, 0.25, np.nan])
    assert (read.method, read.parameters, read.source) == ("by hand", {"k": [50, 100]}, str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["val.npz"]


def test_no_images_at_all(tmp_path):
    write_proposals(tmp_path / "none.npz", Proposals.pack([], [], method="none", source="here"))
    read = read_proposals(tmp_path / "none.npz")
    assert len(read) == 0 and read.boxes.shape == (0, 4)
    assert len(read.select([])) == 0


def test_select_reorders_and_lists_what_is_missing():
    chosen = example().select(["c", "a"])
    assert list(chosen.image_ids) == ["c", "a"] and chosen.seconds[1] == 0.5
    np.testing.assert_array_equal(chosen.of(1), BOXES[0].astype(np.float32))
    with pytest.raises(UserError, match=r"here has no proposals for 2 of 3 images: x, y; its ids look like a, "):
        example().select(["x", "a", "y"])
    with pytest.raises(UserError, match=r"for 12 of 12 images: 20, .*29 and 2 more"):
        example().select([str(number) for number in range(20, 32)])


def test_ids_behind_a_folder_are_those_of_files_that_know_one_folder(tmp_path):
    """VOC 07+12 with the regions that R-CNN published, a file for each year, and the other way round."""
    for year, image_id, side in (("2007", "000005", 10), ("2012", "2008_000003", 20)):
        images, boxes = np.empty((1, 1), object), np.empty((1, 1), object)
        images[0, 0], boxes[0, 0] = image_id, np.array([[1, 1, side, side]], np.float64)
        savemat(tmp_path / f"voc_{year}_trainval.mat", {"images": images, "boxes": boxes})
    read = read_proposals(tmp_path).select(["VOC2012/2008_000003", "VOC2007/000005"])
    assert list(read.image_ids) == ["VOC2012/2008_000003", "VOC2007/000005"]
    assert [read.of(index).tolist() for index in (0, 1)] == [[[0, 0, 20, 20]], [[0, 0, 10, 10]]]
    assert example().select(["2"]).of(0).shape == (0, 4)  # ü/2 in the file, 2 in the data
    with pytest.raises(UserError, match="no proposals for 1 of 2 images: VOC2007/000009"):
        read_proposals(tmp_path).select(["VOC2007/000009", "VOC2007/000005"])


@pytest.mark.parametrize(
    ("known", "asked"),
    [(["a/1", "b/1"], ["1"]), (["1"], ["a/1", "b/1"]), (["a/1"], ["a/1", "b/1"]), (["a/1", "b/1"], ["c/1"])],
)
def test_ids_that_could_be_of_several_images_are_refused(known, asked):
    proposals = Proposals.pack(known, [np.zeros((0, 4))] * len(known), method="none", source="here")
    with pytest.raises(UserError, match=r"here has proposals for .*1, and which of them are those of .*1 is open"):
        proposals.select(asked)


def test_coco_results_are_ordered_by_score(tmp_path):
    path = tmp_path / "found.json"
    entries = [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.2},
        {"image_id": "x", "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.9},
    ]
    path.write_text(json.dumps(entries))
    read = read_proposals(path)
    assert list(read.image_ids) == ["7", "x"]
    assert read.of(0).tolist() == [[1, 2, 4, 6], [10, 20, 40, 60]]
    assert np.isnan(read.seconds).all()


def test_matlab_cells_become_half_open_boxes(tmp_path):
    images, boxes = np.empty((2, 1), object), np.empty((1, 2), object)
    images[:, 0] = ["000005", "000007"]
    boxes[0, :] = [np.array([[1, 2, 10, 20], [5, 5, 5, 5]], np.float64), np.zeros((0, 4))]
    savemat(tmp_path / "boxes.mat", {"images": images, "boxes": boxes})
    read = read_proposals(tmp_path / "boxes.mat")
    assert list(read.image_ids) == ["000005", "000007"]
    assert read.of(0).tolist() == [[1, 0, 20, 10], [4, 4, 5, 5]]  # the second is one pixel
    assert read.of(1).shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt: proposals are read from \.npz, \.json, \.mat"),
        ("a.npz", b"broken", r"a\.npz is not a file of proposals"),
        ("a.json", b"{", r"a\.json is not json"),
        ("a.json", b"{}", r"a\.json holds no list: expected COCO results"),
        ("a.json", b'[{"image_id": 1, "bbox": [1, 2, 3]}]', r"entry 0 is no proposal .*expected image_id"),
        ("a.json", b'[{"image_id": 5, "bbox": [1, 2, 0, 3], "score": 1}]', r"1 boxes are empty .* image 5: \[1"),
        ("a.mat", b"broken", r"a\.mat is not a MATLAB file"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_proposals(tmp_path / name)


def test_other_wrong_files(tmp_path):
    with pytest.raises(UserError, match=r"no file of proposals at .*none\.npz"):
        read_proposals(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", boxes=np.zeros((1, 4)))
    with pytest.raises(UserError, match=r"other\.npz is not a file of proposals"):
        read_proposals(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", about=np.array([{}], object))
    with pytest.raises(UserError, match=r"pickled\.npz is not a file of proposals"):
        read_proposals(tmp_path / "pickled.npz")
    savemat(tmp_path / "other.mat", {"x": 1})
    with pytest.raises(UserError, match=r"other\.mat lacks the cells"):
        read_proposals(tmp_path / "other.mat")
    twice = Proposals.pack(["a", "a"], BOXES[:2], method="none", source="here")
    write_proposals(tmp_path / "twice.npz", twice)
    with pytest.raises(UserError, match=r"twice\.npz has two entries for one image id"):
        read_proposals(tmp_path / "twice.npz")


def test_a_folder_holds_a_file_for_each_split(tmp_path):
    write_proposals(tmp_path / "train.npz", example())
    more = Proposals.pack(["c", "d"], BOXES[:2], [1, 2], method="by hand", source="there")
    write_proposals(tmp_path / "val.npz", more)
    (tmp_path / "val.json").write_text("{}")  # the report beside it
    read = read_proposals(tmp_path)
    assert list(read.image_ids) == ["a", "ü/2", "c", "d"]
    np.testing.assert_array_equal(read.of(2), BOXES[2])
    np.testing.assert_array_equal(read.seconds, [0.5, 0.25, np.nan, 2])
    with pytest.raises(UserError, match="no files of proposals"):
        (tmp_path / "empty").mkdir()
        read_proposals(tmp_path / "empty")
