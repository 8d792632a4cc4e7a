"""The command line: verbs, exit codes, and what a mistyped word is answered with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from detkit.commands import cli
from detkit.core.errors import UserError

CONFIGS = {
    "train.yaml": """
defaults: [model: faster_rcnn, trainer: default, _self_, experiment: null]
seed: 0
hydra: {run: {dir: out/run}, sweep: {dir: out/sweep}, job: {chdir: false}, output_subdir: null}
""",
    "eval.yaml": "checkpoint: ???\nsplit: test\nhydra: {run: {dir: out/run}, output_subdir: null}",
    "model/faster_rcnn.yaml": "defaults: [backbone: vgg16, _self_]\nwidth: 4",
    "model/retinanet.yaml": "defaults: [backbone: resnet50, _self_]",
    "model/backbone/vgg16.yaml": "depth: 16",
    "model/backbone/resnet50.yaml": "depth: 50\nstrides: [8, 16]",
    "trainer/default.yaml": "budget: 20ep\nlr: 0.1\naverage: {decay: 0.9}",
    "unused/one.yaml": "a: 1",
    "experiment/quickstart.yaml": "# @package _global_\nseed: 7",
    "experiment/modern/cells.yaml": "# @package _global_\nseed: 8",
}

seen: list[dict] = []


def fake_train(config):
    from omegaconf import OmegaConf

    seen.append(OmegaConf.to_container(config))
    if config.seed == 99:
        raise UserError("seed=99 is unlucky; take another")
    if config.seed == 98:
        raise KeyboardInterrupt
    if config.seed == 97:
        logging.getLogger("detkit.a_room").info("told")
        logging.getLogger("detkit.a_room").warning("beware")
    return {"loss": 1.0}


def fake_check(config):
    return len(config.checkpoint)


@pytest.fixture
def configs(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    for name, text in CONFIGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "config_dir", lambda: folder)
    monkeypatch.setattr(
        cli,
        "VERBS",
        {
            "train": cli.Verb("train", f"{__name__}:fake_train", "train"),
            "eval": cli.Verb("eval", f"{__name__}:fake_check", "eval"),
        },
    )
    seen.clear()
    return folder


def run(capsys, *argv: str) -> tuple[int, str]:
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_without_a_verb_the_verbs_are_listed(capsys):
    assert cli.main([]) == 2
    code, text = run(capsys, "--help")
    assert code == 0
    assert all(verb in text for verb in cli.VERBS)


def test_version(capsys):
    assert run(capsys, "--version") == (0, "detkit 0.1.0\n")


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys):
    code, text = run(capsys, "trian")
    assert code == 2
    assert "did you mean train?" in text


def test_a_verb_runs_its_function_on_the_composed_config(configs, capsys):
    assert cli.main(["train", "model=retinanet", "trainer.budget=5min", "experiment=quickstart"]) == 0
    assert seen[0]["model"]["backbone"]["depth"] == 50
    assert seen[0]["trainer"]["budget"] == "5min"
    assert seen[0]["seed"] == 7


def test_the_working_directory_stays(configs, tmp_path):
    cli.main(["train", "hydra.run.dir=elsewhere"])
    assert Path.cwd() == tmp_path
    assert (tmp_path / "elsewhere").is_dir()


def test_multirun_runs_every_value(configs):
    assert cli.main(["train", "-m", "model=faster_rcnn,retinanet", "seed=1,2"]) == 0
    assert [config["seed"] for config in seen] == [1, 2, 1, 2]


def test_the_exit_code_is_the_functions_own(configs):
    assert cli.main(["eval", "checkpoint=x"]) == 1


def test_cfg_job_prints_the_config_without_running(configs, capsys):
    code, text = run(capsys, "train", "--cfg", "job", "seed=3")
    assert code == 0
    assert "seed: 3" in text
    assert not seen


def test_an_own_config_dir_adds_experiments(configs, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 41\n")
    assert cli.main(["train", "--config-dir", "mine", "experiment=own"]) == 0
    assert seen[0]["seed"] == 41


def test_a_user_error_is_a_message_without_a_traceback(configs, capsys):
    code, text = run(capsys, "train", "seed=99")
    assert code == 2
    assert text == "error: seed=99 is unlucky; take another\n"


def test_the_traceback_can_be_asked_for(configs, capsys, monkeypatch):
    monkeypatch.setenv("DETKIT_TRACEBACK", "1")
    code, text = run(capsys, "train", "seed=99")
    assert code == 2
    assert "Traceback" in text


def test_an_interrupt_is_130(configs):
    assert cli.main(["train", "seed=98"]) == 130


@pytest.mark.silent
def test_what_is_logged_is_told_while_a_command_runs(configs, capsys):
    for _ in range(2):  # the second finds a logger that Hydra disables
        assert cli.main(["train", "seed=97", "hydra/job_logging=disabled"]) == 0
        assert capsys.readouterr() == ("told\n", "beware\n")
    detkit = logging.getLogger("detkit")
    assert detkit.propagate and detkit.level == logging.NOTSET
    logging.getLogger("detkit.a_room").warning("nobody asked")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argument", "answers"),
    [
        ("trainer.bugdet=5min", ["no key trainer.bugdet", "did you mean trainer.budget?", "budget, lr, average"]),
        ("trainer.average.deacy=1", ["no key trainer.average.deacy", "did you mean trainer.average.decay?"]),
        ("trianer.budget=1ep", ["no key trianer.budget", "did you mean trainer.budget?"]),
        ("budget=5min", ["no key budget", "did you mean trainer.budget?"]),
        ("loader.sides=[64]", ["loader.sides is now loader.multiscale"]),
        ("+mix=mosaic", ["mix is now multi_image"]),
        ("model/tail=two_fc", ["model/tail is now model/box_head"]),
        (
            "model/backbone@model.tail.backbone=vgg16",
            ["@model.tail.backbone is now model/backbone@model.box_head.backbone"],
        ),
        ("~proposing.cache_dir", ["proposing.cache_dir is now proposal_cache.cache_dir"]),
        ("model/proposer=external", ["model/proposer=external is now model/proposer=precomputed"]),
        ("modle=retinanet", ["no key modle", "did you mean model?"]),
        ("model=faster_rcn", ["no model=faster_rcn", "did you mean faster_rcnn?", "faster_rcnn, retinanet"]),
        ("model/backbone=resnet5", ["no model/backbone=resnet5", "did you mean resnet50?"]),
        ("model/bakbone=resnet50", ["no config group model/bakbone", "did you mean model/backbone?"]),
        ("model.backbone=resnet50", ["use model/backbone=resnet50", "resnet50, vgg16"]),
        ("model.backbone=resnet5", ["use model/backbone=resnet50"]),
        ("trainer.lr.x=1", ["no key trainer.lr.x: trainer.lr is a single value"]),
        (
            "unused=one",
            ["train has no place for unused=one", "groups of train: experiment, model, model/backbone, trainer"],
        ),
        ("experiment=quikstart", ["did you mean quickstart?"]),
        ("experiment=modern/cels", ["did you mean modern/cells?"]),
        ("experiment=moden/cells", ["did you mean modern/cells?", "quickstart, modern/cells"]),
        ("experiment=cells", ["did you mean modern/cells?"]),
        ("~trainer.bugdet", ["did you mean trainer.budget?"]),
        ("model=true", ["model=true: model takes the name of an option", "faster_rcnn, retinanet"]),
        ("model=[0]", ["model takes the name of an option"]),
        ("seed=[1", ["seed=[1"]),
        ("seed", ["seed"]),
    ],
)
def test_a_mistyped_override_is_answered_with_the_nearest_valid_one(configs, capsys, argument, answers):
    code, text = run(capsys, "train", argument)
    assert code == 2
    assert "Traceback" not in text
    for answer in answers:
        assert answer in text
    assert not seen


def test_an_option_in_a_folder_is_not_blamed_for_another(configs, capsys):
    code, text = run(capsys, "train", "experiment=modern/cells", "model=faster_rcn")
    assert code == 2
    assert "no model=faster_rcn" in text and "experiment" not in text


def test_a_mistyped_option_in_a_sweep_is_named(configs, capsys):
    code, text = run(capsys, "train", "-m", "model=faster_rcnn,retinanett")
    assert code == 2
    assert "did you mean retinanet?" in text


def test_a_missing_value_names_the_key(configs, capsys):
    code, text = run(capsys, "eval")
    assert code == 2
    assert "checkpoint=..." in text


def test_new_keys_are_added_with_a_plus(configs):
    assert cli.main(["train", "+trainer.extra=1"]) == 0
    assert seen[0]["trainer"]["extra"] == 1


def test_every_verb_names_an_existing_tool():
    tools = Path(cli.__file__).parents[2] / "tools"
    assert all((tools / f"{verb}.py").is_file() for verb in cli.VERBS)


def test_a_command_leaves_nothing_of_hydra_behind(configs):
    from hydra.core.hydra_config import HydraConfig

    assert cli.main(["train", "--cfg", "job"]) == 0
    assert not HydraConfig.initialized()
    assert cli.main(["train", "seed=3"]) == 0
    assert not HydraConfig.initialized()
