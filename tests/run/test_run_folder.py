from __future__ import annotations

from pathlib import Path

import pytest

from detkit.checkpoint.content import Checkpoint
from detkit.core.errors import UserError
from detkit.run.run_folder import (
    check_of_a_training,
    check_same_classes,
    check_same_training,
    find_run,
)


def run(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.pt").touch()
    return folder


def test_which_run_is_gone_on_with(tmp_path: Path) -> None:
    new = tmp_path / "2026-01-03"
    assert find_run(None, new) == (None, new)
    assert find_run(True, new) == (None, new)
    old, older = run(tmp_path / "2026-01-02"), run(tmp_path / "2026-01-01")
    (tmp_path / "2026-01-02b").mkdir()  # without a checkpoint
    assert find_run(True, new) == (old / "checkpoints" / "last.pt", old)
    assert find_run(True, new, any_name=False) == (None, new)
    assert find_run(True, older) == (older / "checkpoints" / "last.pt", older)
    for path in (older, older / "checkpoints" / "last.pt"):
        assert find_run(str(path), new) == (older / "checkpoints" / "last.pt", older)
    with pytest.raises(UserError, match="no checkpoint"):
        find_run(str(tmp_path / "2026-01-02b"), new)


def test_what_may_change_and_what_may_not() -> None:
    config = {"seed": 0, "trainer": {"budget": "1ep", "ema": None}, "data": {"root": "a"}, "model": {"x": [1]}}
    saved = Checkpoint(model={}, config=config, classes=[], preprocess={})
    same = {"seed": 0, "trainer": {"budget": "9ep", "ema": None}, "data": {"root": "b"}, "model": {"x": [1]}}
    check_same_training(saved, same, Path("p"))
    other = {"trainer": {"budget": "1ep", "ema": 0.9}, "data": {"root": "a"}, "model": {"x": [2], "y": 1}}
    with pytest.raises(UserError) as error:
        check_same_training(saved, other, Path("p"))
    for part in ("model.x=[2] (was [1])", "model.y=1 (was <absent>)", "seed=<absent> (was 0)", "trainer.ema=0.9"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (["ring", "star", "zebra"], "(new: zebra)"),
        (["ring"], "(gone: star)"),
        (["Ring", "star"], "(gone: ring; new: Ring)"),
        (["star", "ring"], "(the same in another order: star, ring (was ring, star))"),
    ],
)
def test_classes_are_compared_by_name(now: list[str], told: str) -> None:
    check_same_classes(["ring", "star"], ["ring", "star"], Path("p"))
    with pytest.raises(UserError) as error:
        check_same_classes(["ring", "star"], now, Path("p"))
    assert told in str(error.value) and "finetune=p" in str(error.value)


def test_what_is_no_checkpoint_of_a_training_is_told() -> None:
    with pytest.raises(UserError, match=r"resume=p is not a checkpoint of a training \(it has no optim"):
        check_of_a_training(Checkpoint(model={}, config={}, classes=[], preprocess={}), Path("p"))
