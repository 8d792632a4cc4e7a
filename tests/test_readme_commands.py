"""Every command that the documents show runs, and says what they say it does."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
from darknet_nets import write_files
from readme_commands import DOCUMENTS, ROOT, TRAIN, Shown, commands_in, shown_commands

from detkit.commands import cli

SMALL = "model.backbone.pretrained=false preprocess.short=64 preprocess.max=96"
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = shown_commands()


def run(command: str) -> None:
    assert cli.main(shlex.split(command)) == 0, command


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents call DIR, FILE, RUN, photos/, yolo.cfg and mine/experiment/cells.yaml."""
    place = tmp_path_factory.mktemp("documents")
    data = place / "DIR"
    run(f"make_synthetic root={data} num_train=6 num_val=3 num_test=3 size=[96,128]")
    lists = data / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    pictures = sorted((data / "JPEGImages").iterdir())
    shutil.copy(pictures[0], place / "FILE")
    (place / "photos").mkdir()
    for picture in pictures[:3]:
        shutil.copy(picture, place / "photos")
    write_files(place, "yolo")
    (place / "yolo.names").write_text("ring\nstar\n")
    [own] = re.findall(r"^```yaml\n(# @package.*?)^```", README, re.M | re.S)
    (place / "mine" / "experiment").mkdir(parents=True)
    (place / "mine" / "experiment" / "cells.yaml").write_text(own.replace("/data/cells", str(data)))
    run(f"train data=voc data.root={data} model/box_head=two_fc {SMALL} {TRAIN} hydra.run.dir={place / 'RUN'}")
    return place


@pytest.fixture(scope="session")
def rcnn_run(workplace: Path) -> Path:
    """A finished R-CNN, the only detector that `fit_svm` takes."""
    folder = workplace / "RUN_OF_RCNN"
    small = "model=rcnn_light model.box_head.backbone.pretrained=false preprocess.short=64 preprocess.max=96"
    run(f"train data=voc data.root={workplace / 'DIR'} {small} {TRAIN} hydra.run.dir={folder}")
    return folder


def cases() -> list:
    run_here = [shown for shown in COMMANDS if shown.reason is None]
    return [pytest.param(shown, id=shown.text, marks=[pytest.mark.slow] if shown.is_slow else []) for shown in run_here]


@pytest.mark.parametrize("shown", cases())
def test_a_command_of_the_documents_runs(shown: Shown, workplace, monkeypatch, capfd, request):
    monkeypatch.chdir(workplace)
    arguments = shown.arguments
    if arguments[0] == "fit_svm":
        arguments = [word.replace("RUN", str(request.getfixturevalue("rcnn_run"))) for word in arguments]
    if any("model.onnx" in word for word in arguments):
        pytest.importorskip("onnxruntime")
        if arguments[0] == "eval" and not (workplace / "model.onnx").is_file():
            run("export checkpoint=RUN output=model.onnx source=photos repeats=1")
    if arguments[0] == "make_synthetic":
        arguments = [word.replace("DIR", f"NEW{COMMANDS.index(shown)}") for word in arguments]
    capfd.readouterr()
    code = cli.main(arguments)
    output = "".join(capfd.readouterr())
    assert "Traceback" not in output, output
    if shown.answer is not None and shown.answer.startswith("error: "):
        assert code == 2, output
        assert shown.answer in output
    else:
        assert code == 0, output


def test_no_page_is_left_out():
    pages = {"README.md", "CONTRIBUTING.md", "datasets/README.md"}
    assert set(DOCUMENTS) == pages | {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    found = Counter(shown.document for shown in COMMANDS)
    assert [page for page, least in DOCUMENTS.items() if found[page] < least] == []


def test_what_is_not_run_is_named_with_its_reason():
    left_out = [shown for shown in COMMANDS if shown.reason is not None]
    verbs = [match[1] for shown in left_out if (match := re.fullmatch(r"detkit (\w+)", shown.text))]
    assert set(verbs) <= set(cli.VERBS)
    assert len(COMMANDS) - len(left_out) >= 30
    print(*(f"not run: {shown.text}: {shown.reason}" for shown in left_out), sep="\n")


def test_every_verb_is_in_the_documents():
    shown = {shown.arguments[0] for shown in COMMANDS if shown.reason is None}
    assert shown == set(cli.VERBS)


def test_a_command_that_is_not_known_is_not_passed_over():
    [shown] = commands_in("```\ndocker run detkit\n```", "x.md")
    assert shown.reason is None
    with pytest.raises(ValueError, match="docker run detkit"):
        _ = shown.arguments


def test_the_program_of_the_readme_runs(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    [program] = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    shutil.copy("FILE", "photo.jpg")
    exec(compile(program.replace("outputs/train/…", "RUN"), "README.md", "exec"), {})
    assert (workplace / "annotated.jpg").is_file()
