"""Every model with every option of every group that it has is built and learns, or says why not."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import pytest
from product import Case, Outcome, attempt, pairs, product

from detkit.commands.cli import config_dir
from detkit.config.overrides import config_loader, options_of

FAST = 10  # cases that `make test` builds, without weights


def check(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many were built, refused and crashed; asserts that none crashed, and that a refusal names a key."""
    count = Counter(outcome.result for outcome in outcomes)
    crashed = [f"{o.case}: {o.reason}" for o in outcomes if o.result == "crashed"]
    assert not crashed, "\n".join(crashed)
    refused = [outcome for outcome in outcomes if outcome.result == "refused"]
    mute = [f"{o.case}: {o.reason}" for o in refused if not re.search(r"model[./]|loader\.batch_size", o.reason)]
    assert not mute, "\n".join(mute)
    return count


def test_some_options_of_the_light_models_are_built_or_refused() -> None:
    light = [case for case in product(config_loader(str(config_dir()))) if case.model.endswith("_light")]
    count = check([attempt(case, train=False) for case in Random(0).sample(light, FAST)])
    assert count["built"] > 0 and count["refused"] > 0


@pytest.mark.parametrize("model", ["faster_rcnn_light", "ssd_light"])
def test_a_step_of_a_model_with_its_own_parts(model: str) -> None:
    assert attempt(Case(model, ())).result == "built"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", options_of(config_loader(str(config_dir())), "model"))
def test_the_product_of(model: str, total: Counter[str]) -> None:
    cases = list(product(config_loader(str(config_dir())), [model]))
    total.update(run(f"{model} with each option of each of its groups", cases))


@pytest.fixture(scope="module")
def total() -> Iterator[Counter[str]]:
    """What came of all models that were run."""
    count: Counter[str] = Counter()
    yield count
    print(f"\nthe product: {count.total()} combinations, {told(count)}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0])
def test_pairs_of_options(seed: int) -> None:
    run(f"pairs, seed {seed}", list(pairs(config_loader(str(config_dir())), 200, seed)))


def run(what: str, cases: list[Case]) -> Counter[str]:
    """Train each for a step, in as many processes as there are cores, at most four; print the numbers."""
    started = time.perf_counter()
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), get_context("spawn")) as pool:
        outcomes = list(pool.map(attempt, cases))
    count = Counter(outcome.result for outcome in outcomes)
    minutes = (time.perf_counter() - started) / 60
    print(f"\n{what}: {len(cases)} combinations, {told(count)}, {minutes:.1f} minutes", flush=True)
    check(outcomes)
    return count


def told(count: Counter[str]) -> str:
    return f"{count['built']} built, {count['refused']} refused with a reason, {count['crashed']} crashed"
