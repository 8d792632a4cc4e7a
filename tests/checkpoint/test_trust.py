"""A checkpoint has only those parts built that are detkit's own or trusted."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from detkit.checkpoint.trust import check_reader, check_targets, is_part_of, named_in, names_of
from detkit.config.config_dir import config_dir
from detkit.core.errors import UserError

BACKBONE = "detkit.model.backbone.resnet.ResNet"


@pytest.mark.parametrize(
    ("target", "trust"),
    [
        (BACKBONE, ()),
        ("detkit.image.preprocess.Warp", ()),
        ("fake_detector.FakeDetector", ["fake_detector"]),
        ("fake_detector.FakeDetector", "fake_detector"),
        ("fake_detector.FakeDetector", ["fake_detector.FakeDetector"]),
        ("json.decoder.JSONDecoder", ["json"]),
        ("json.JSONDecoder", ["json"]),  # of json.decoder, which is below json
    ],
)
def test_what_is_built(target: str, trust: str | list[str]) -> None:
    check_targets({"a": [{"_target_": target}]}, trust)


@pytest.mark.parametrize(
    ("target", "trust", "told"),
    [
        ("os.system", (), r"add trust=\[os\]"),
        ("fake_detector.FakeDetector", ["fake"], r"add trust=\[fake_detector\]"),
        ("detkit.model.two_stage.torch.hub.load", (), "no part of detkit.model."),
        ("detkit.train.train.train", (), "no part of detkit.model."),
        ("fake_detector.os.system", ["fake_detector"], "cannot be imported"),
        ("fake_detector.DictConfig", ["fake_detector"], "not fake_detector's own"),
        ("fake_detector.Absent", ["fake_detector"], "fake_detector has no Absent"),
        ("no_such_module.Net", ["no_such_module"], "no_such_module cannot be imported .* on PYTHONPATH"),
        ("", ["x"], "no part of"),
    ],
)
def test_what_is_not_built_and_what_to_add(target: str, trust: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_targets({"a": {"b": [{"_target_": target}]}}, trust, "model")
    assert str(caught.value).startswith("model.a.b[0]._target_=")


READER = "detkit.data.formats.voc.voc.read_voc"
CONFIGS = [OmegaConf.load(path) for path in sorted((config_dir() / "data").glob("*.yaml"))]
READERS = [config.reader for config in CONFIGS if "_target_" in config.get("reader", {})]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader._target_)
def test_the_readers_of_detkit_are_read_again(reader: DictConfig) -> None:
    check_reader(OmegaConf.to_container(reader), ())


def test_a_reader_is_one_of_detkits_or_trusted() -> None:
    check_reader({"_target_": READER, "missing_annotation": "empty"}, ())
    check_reader({"_target_": "fake_detector.build_fake"}, "fake_detector")


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        ({"_target_": "fake_detector.build_fake"}, r"with fake_detector.build_fake .* add trust=\[fake_detector\]"),
        ({"_target_": "detkit.data.formats.voc.voc.find_voc_classes"}, r"is a function read_\*"),
        ({"_target_": READER, "missing_annotation": {"_target_": "os.remove", "path": "x"}}, r"add trust=\[os\]"),
    ],
)
def test_no_other_reader_and_no_argument_of_one_is_built(reader: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_reader(reader, ())
    assert str(caught.value).startswith("the checkpoint reads its data with ")


def test_a_part_of_a_module_is_its_own() -> None:
    assert is_part_of(BACKBONE, ["detkit.model."])
    assert not is_part_of("detkit.model.backbone.resnet.nn", ["detkit.model."])
    assert not is_part_of(BACKBONE, ["detkit.mod."])


def test_names() -> None:
    assert names_of(None) == [] and names_of("a") == ["a"] and names_of(["a", "b"]) == ["a", "b"]
    assert list(named_in({"a": {"_target_": "x.Y", "b": [{"_target_": "z"}]}, "c": 1})) == ["x.Y", "z"]
