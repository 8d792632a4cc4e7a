"""Every model with every option of every group that it has is built and learns, or says why not."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import pytest
from product import Case, Outcome, attempt, pairs, product

from detkit.cli import config_dir
from detkit.overrides import config_loader

AT_ONCE = 100  # cases before the processes are new ones: what they hold grows
FAST = 10  # cases that `make test` builds, without weights


def check(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many were built, refused and crashed; asserts that none crashed, and that a refusal names a key."""
    count = Counter(outcome.result for outcome in outcomes)
    crashed = [f"{o.case}: {o.reason}" for o in outcomes if o.result == "crashed"]
    assert not crashed, "\n".join(crashed)
    refused = [outcome for outcome in outcomes if outcome.result == "refused"]
    mute = [f"{o.case}: {o.reason}" for o in refused if not re.search(r"model[./]", o.reason)]
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
@pytest.mark.timeout(6 * 3600)
def test_the_whole_product() -> None:
    run("product", list(product(config_loader(str(config_dir())))))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0])
def test_pairs_of_options(seed: int) -> None:
    run(f"pairs, seed {seed}", list(pairs(config_loader(str(config_dir())), 200, seed)))


def run(what: str, cases: list[Case]) -> None:
    """Train each for a step, in as many processes as there are cores, at most four; print the numbers."""
    started, outcomes = time.perf_counter(), list[Outcome]()
    for first in range(0, len(cases), AT_ONCE):
        with ProcessPoolExecutor(min(4, os.cpu_count() or 1), get_context("spawn")) as pool:
            outcomes += pool.map(attempt, cases[first : first + AT_ONCE])
        told = Counter(outcome.result for outcome in outcomes)
        print(
            f"{len(outcomes)} of {len(cases)}, {(time.perf_counter() - started) / 60:.0f} minutes: {dict(told)}",
            flush=True,
        )
        for outcome in outcomes[first:]:
            if outcome.result == "crashed":
                print(f"{outcome.case}: {outcome.reason}", flush=True)
    count = Counter(outcome.result for outcome in outcomes)
    print(
        f"\n{what}: {len(cases)} combinations, {count['built']} built, {count['refused']} refused with a reason, "
        f"{count['crashed']} crashed, {(time.perf_counter() - started) / 60:.0f} minutes"
    )
    check(outcomes)
