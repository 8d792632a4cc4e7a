"""`detkit predict` on files, folders and videos with a detector that needs no training."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detkit.commands.predict import JsonRows, picture_names, predict_files
from detkit.core.errors import UserError
from detkit.core.structures import Detections
from detkit.image.preprocess import ShortSide
from detkit.image.source import find_sources
from detkit.image.video import VideoReader, VideoWriter
from detkit.infer.loaded_detector import LoadedDetector
from detkit.model.detector import Detector


class WholeImage(Detector):
    """One detection per image: all of it."""

    def __init__(self) -> None:
        super().__init__(num_classes=1, preprocess=ShortSide(short=32, max=64), mean=(0, 0, 0), std=(1, 1, 1))

    def predict(self, batch):
        return [
            Detections(torch.tensor([[0.0, 0, w, h]]), torch.tensor([0.8]), torch.tensor([0]))
            for h, w in batch.original_sizes
        ]


@pytest.fixture
def detector() -> LoadedDetector:
    return LoadedDetector(WholeImage(), classes=["thing"])


def save(path, width=40, height=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 9, 9)).save(path)


def make_video(path, frames=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=10) as writer:
        for index in range(frames):
            writer.write(np.full((48, 64, 3), index * 20, np.uint8))
    return writer.path


def test_a_folder_is_searched_with_all_below_it(tmp_path):
    save(tmp_path / "b.jpg")
    save(tmp_path / "sub" / "a.PNG")
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in find_sources(str(tmp_path))] == ["b.jpg", "a.PNG"]
    assert [path.name for path in find_sources(str(tmp_path / "*.jpg"))] == ["b.jpg"]
    assert find_sources(str(tmp_path / "b.jpg")) == [tmp_path / "b.jpg"]


def test_a_source_without_pictures_is_named(tmp_path):
    for source in (str(tmp_path), str(tmp_path / "none.jpg"), str(tmp_path / "*.jpg")):
        with pytest.raises(UserError, match="source="):
            find_sources(source)


def test_names_of_annotated_copies_do_not_collide(tmp_path):
    files = [tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "sub" / "a.jpg"]
    names = picture_names(files, tmp_path)
    assert [str(names[file]) for file in files] == ["a.jpg", "a_2.jpg", "sub/a.jpg"]
    assert len(set(picture_names(files, None).values())) == 3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_and_rows_are_written_and_a_broken_file_is_skipped(detector, tmp_path, capsys, batch_size):
    source, run = tmp_path / "in", tmp_path / "run"
    for name in ("a.jpg", "c.png", "d.png", "e.png"):
        save(source / name)
    (source / "b.jpg").write_bytes(b"broken")
    (source / "z.jpg").write_bytes(b"broken too")
    summary = predict_files(detector, find_sources(str(source)), run, root=source, batch_size=batch_size)
    rows = json.loads((run / "predictions.json").read_text())
    assert (summary["images"], summary["detections"], summary["unreadable"]) == (4, 4, 2)
    assert sum("error" in row for row in rows) == 2
    row = next(row for row in rows if row["image"].endswith("a.jpg"))
    assert row["detections"][0]["name"] == "thing"
    assert row["detections"][0]["box"] == [0, 0, 40, 30]
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["a.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert "b.jpg" in capsys.readouterr().err


def test_pictures_can_be_left_out_and_low_scores_are(detector, tmp_path):
    save(tmp_path / "a.png")
    predict_files(detector, [tmp_path / "a.png"], tmp_path / "run", pictures=False, score_threshold=0.9)
    assert json.loads((tmp_path / "run" / "predictions.json").read_text())[0]["detections"] == []
    assert not (tmp_path / "run" / "pictures").exists()


def test_nothing_readable_is_an_error(detector, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"a\.jpg"):
        predict_files(detector, [tmp_path / "a.jpg"], tmp_path / "run")


def test_a_video_becomes_a_video_and_a_row_per_frame(detector, tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    summary = predict_files(detector, [video], tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert summary["images"] == 5
    assert [row["frame"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[2]["time_s"] == pytest.approx(0.2)
    [written] = (tmp_path / "run" / "pictures").iterdir()
    frames = list(VideoReader(written))
    assert len(frames) == 5
    assert frames[0].shape == (48, 64, 3)


def test_an_mjpg_avi_is_read(detector, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert predict_files(detector, [path], tmp_path / "run", pictures=False)["images"] == 3


def test_a_broken_video_does_not_lose_the_pictures(detector, tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.mp4").write_bytes(b"broken")
    summary = predict_files(detector, find_sources(str(tmp_path / "in")), tmp_path / "run")
    assert (summary["images"], summary["unreadable"]) == (1, 1)


def test_rows_written_before_an_error_are_valid_json(tmp_path):
    path = tmp_path / "rows.json"
    with pytest.raises(KeyboardInterrupt), JsonRows(path) as rows:
        rows.add({"a": 1})
        rows.add({"b": "ä"})
        raise KeyboardInterrupt
    assert json.loads(path.read_text(encoding="utf-8")) == [{"a": 1}, {"b": "ä"}]


def test_no_rows_are_an_empty_list(tmp_path):
    with JsonRows(tmp_path / "rows.json"):
        pass
    assert json.loads((tmp_path / "rows.json").read_text()) == []
