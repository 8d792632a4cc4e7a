"""What is taken for a slip, and what is not."""

from __future__ import annotations

from detkit.core.suggest import among, did_you_mean, nearest


def test_the_nearest_word_whatever_its_case() -> None:
    assert nearest("trian", ["eval", "train"]) == "train"
    assert nearest("CAT", ["dog", "cat"]) == "cat"
    assert nearest("Cat", ["dog", "cAT"]) == "cAT"
    assert nearest("zebra", ["eval", "train"]) is None


def test_a_word_is_no_guess_of_itself() -> None:
    assert nearest("train", ["train"]) is None
    assert nearest("train", ["train", "trainval"]) == "trainval"


def test_how_alike_is_for_the_caller_to_say() -> None:
    assert nearest("resnet18", ["resnet50"], alike=0.6) == "resnet50"
    assert nearest("resnet18", ["resnet50"], alike=0.8) is None


def test_what_a_message_adds() -> None:
    assert did_you_mean("trian", ["train"]) == "; did you mean train?"
    assert did_you_mean("zebra", ["train"]) == ""
    assert among("catt", ["cat", "dog"]) == "; did you mean 'cat'? (known: cat, dog)"
    assert among("zebra", []) == " (known: none)"
