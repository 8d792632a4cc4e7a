"""The package of docs/extend.md, made of the page's own code blocks: trained, resumed, measured, opened and refused."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readme_commands import ELSEWHERE, ROOT, SHORT, TRAIN, Shown, commands_in

import detkit
from detkit.checkpoint.build import build_from_checkpoint
from detkit.commands import cli
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint

NAME = "docs/extend.md"
PAGE = (ROOT / NAME).read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+/\S+)\n(.*?)^```", PAGE, re.M | re.S))
SHOWN = [shown for shown in commands_in(PAGE, NAME) if shown.reason == ELSEWHERE[NAME]]
COMMANDS = [shown for shown in SHOWN if shown.text != "export PYTHONPATH=$PWD"]
SMALL = f"preprocess.size=64 model.backbone.width=8 model.dense_head.channels=8 {TRAIN} hydra.run.dir=RUN"
OWN = "--config-dir mine data=csv data.root=DIR"
TRUST = "trust=[my_package]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files of the page, a drawn data set DIR and photos/; `my_package` is on the path."""
    folder = tmp_path_factory.mktemp("extend")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "my_package" / "__init__.py").touch()
    for split, count in (("train", 4), ("val", 2)):
        draw_split(folder / "DIR", split, count)
    draw_split(folder / "photos", "photo", 1)
    (folder / "photo.jpg").write_bytes((folder / "photos" / "photo0.png").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        yield folder
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def outputs(place: Path) -> list[tuple[Shown, int, str]]:
    """Every command of the page, run in its order: exit code and what it printed."""
    return [(shown, *run(shortened(shown))) for shown in COMMANDS]


def run(command: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = cli.main(command.split())
    return code, out.getvalue()


def draw_split(folder: Path, name: str, count: int) -> None:
    """NAME.csv and pictures with one bright square each; the last shows nothing."""
    folder.mkdir(exist_ok=True)
    rows = ["image,x1,y1,x2,y2,class"]
    for index in range(count):
        picture, left = np.full((48, 64, 3), 8 * len(name) + index, np.uint8), 6 * index + 4
        picture[10:30, left : left + 20] = 220
        Image.fromarray(picture).save(folder / f"{name}{index}.png")
        rows.append(f"{name}{index}.png,{left},10,{left + 20},30,square")
    rows[-1] = f"{name}{count - 1}.png,,,,,"
    (folder / f"{name}.csv").write_text("\n".join(rows))


def shortened(shown: Shown) -> str:
    """A command of the page that takes seconds; a training goes to RUN, and on from there by two steps."""
    command = shown.text.removeprefix("detkit ")
    if command.startswith("train resume="):
        return f"{command} trainer.budget=4it"
    return f"{command} {SMALL if command.startswith('train ') else SHORT.get(command.split()[0], '')}"


def test_the_page_shows_a_part_of_each_kind_with_its_config():
    assert set(FILES) == {
        "my_package/reader.py", "my_package/augment.py", "my_package/backbone.py", "my_package/dense_head.py",
        "mine/data/csv.yaml", "mine/augment/stain.yaml", "mine/model/backbone/tinynet.yaml",
        "mine/model/dense_head/centre.yaml", "mine/model/centre.yaml",
    }  # fmt: skip


def test_a_training_is_resumed_and_measured(outputs):
    failed = [(shown.text, output) for shown, code, output in outputs if shown.answer is None and code != 0]
    assert not failed
    assert [shown.arguments[0] for shown, _, _ in outputs if shown.answer is None] == [
        "check_data", "train", "train", "eval", "predict",
    ]  # fmt: skip
    assert load_checkpoint("RUN/checkpoints/last.pt").step == 4


def test_without_trust_a_checkpoint_is_refused_in_the_words_of_the_page(outputs):
    refused = [(shown, code, output) for shown, code, output in outputs if shown.answer is not None]
    assert [shown.arguments[0] for shown, _, _ in refused] == ["eval", "train"]
    for shown, code, output in refused:
        assert code == 2
        assert all(part in output for part in shown.answer.split("…")), output
    with pytest.raises(UserError, match=r"add trust=\[my_package\]"):
        detkit.load("RUN")


def test_the_program_of_the_page_opens_the_checkpoint(outputs, capsys):
    [program] = [text for text in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S) if "detkit.load" in text]
    exec(compile(program, NAME, "exec"), {})
    assert "['square']" in capsys.readouterr().out


def test_trust_is_in_a_package_and_not_in_what_it_imports(outputs):
    saved = load_checkpoint("RUN", trust=["my_package"])
    saved.config["model"]["backbone"]["_target_"] = "my_package.backbone.nn.Linear"
    with pytest.raises(UserError, match=r"my_package\.backbone\.nn"):
        build_from_checkpoint(saved)
    predict = "predict checkpoint=RUN source=photos device=cpu"
    assert run(f"{predict} trust=[my_package.backbone]")[0] == 2
    assert run(f"{predict} trust=[my_package.backbone.TinyNet,my_package.dense_head.CentreHead]")[0] == 0


def test_a_reader_of_ones_own_is_trusted_apart_from_the_model(outputs):
    eval_model = f"eval checkpoint=RUN trust=[my_package.backbone,my_package.dense_head] {SHORT['eval']}"
    code, output = run(eval_model)
    assert code == 2
    assert "the checkpoint reads its data with my_package.reader.read_csv (or choose data=... yourself)" in output
    code, output = run(f"{eval_model} {OWN}")
    assert code == 0, output


def test_a_head_of_ones_own_keeps_its_rows_at_fine_tuning(outputs):
    code, output = run(f"train finetune=RUN {TRUST} {OWN} data.classes=[square,ring] {TRAIN} hydra.run.dir=TUNED")
    assert code == 0, output
    assert "rows kept: square; new: ring" in output


def test_a_part_of_ones_own_says_what_would_fit(outputs):
    code, output = run(f"train {OWN} model=retinanet_light model/dense_head=centre {TRAIN}")
    assert code == 2
    assert "model.dense_head reads one map, not 3: set model.strides=[16]" in output


def test_a_preprocess_of_ones_own_is_built_by_the_command_that_names_it(outputs, place):
    (place / "my_package" / "half.py").write_text("from detkit.image.preprocess import Warp\n\nclass Half(Warp): ...\n")
    half = "preprocess=warp preprocess._target_=my_package.half.Half preprocess.height=64 preprocess.width=64"
    small = SMALL.replace("preprocess.size=64", half).replace("=RUN", "=HALF")
    code, output = run(f"train {OWN} model=centre {small}")
    assert code == 0, output
    code, output = run("predict checkpoint=HALF source=photos trust=[my_package.backbone,my_package.dense_head]")
    assert code == 2
    assert "preprocess._target_=my_package.half.Half" in output
    assert run(f"predict checkpoint=HALF source=photos device=cpu {TRUST}")[0] == 0
