"""Compute the proposals of a split in parallel, or take them from a file."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from detkit.core.errors import UserError
from detkit.core.structures import ProposalSource
from detkit.data.annotations import Annotations
from detkit.data.proposals import Proposals
from detkit.data.split import Split
from detkit.proposal.cache import Job, Outcome, parameter_hash, propose_file

log = logging.getLogger(__name__)


def find_proposals(
    source: ProposalSource | Proposals | None,
    annotations: Annotations,
    *,
    num_workers: int,
    cache_dir: str | Path | None,
    repair: str,
) -> Proposals | None:
    """The proposals of every image of a split, in its order: selected from those given, or made by `source`.

    None where there is no source, for detectors that propose themselves. num_workers, cache_dir: as in
    `propose_split`. An image that cannot be read gets no proposals and is named; with repair "error" it raises
    UserError.
    """
    if source is None:
        return None
    if isinstance(source, Proposals):
        return source.select(list(annotations.image_ids))
    folder = None if cache_dir is None else Path(cache_dir).expanduser()
    proposals, faults = propose_split(annotations, source, num_workers=num_workers, cache_dir=folder)
    if faults and repair == "error":
        raise UserError(f"{faults[0]} (and {len(faults) - 1} more; data.repair=error)")
    for fault in faults:
        log.info("no proposals: %s", fault)
    return proposals


def with_proposals(
    annotations: Annotations,
    source: ProposalSource | Proposals | None,
    *,
    num_workers: int,
    cache_dir: str | Path | None,
    repair: str,
) -> Split:
    """A split with the proposals that `find_proposals` gives its images."""
    found = find_proposals(source, annotations, num_workers=num_workers, cache_dir=cache_dir, repair=repair)
    return Split(annotations, found, source, repair)


def propose_split(
    annotations: Annotations, source: ProposalSource, *, num_workers: int, cache_dir: Path | None
) -> tuple[Proposals, list[str]]:
    """The proposals of all images, and a sentence for each that could not be read (it gets no boxes).

    num_workers: processes, each on one core; 0: this one. What is in `cache_dir` already is not computed again.
    The result does not depend on either, but for the seconds.
    """
    parameters = dict(source.parameters())
    folder = None if cache_dir is None else cache_dir / f"{parameters['method']}-{parameter_hash(parameters)}"
    jobs = [
        Job(path, (int(height), int(width)))
        for path, (height, width) in zip(annotations.image_paths, annotations.sizes, strict=True)
    ]
    found = _outcomes(jobs, source, folder, num_workers)
    outcomes = list(tqdm(found, desc="proposing", total=len(jobs), unit="image", disable=None))
    proposals = Proposals.pack(
        list(annotations.image_ids),
        [outcome.boxes for outcome in outcomes],
        [outcome.seconds for outcome in outcomes],
        method=str(parameters["method"]),
        parameters=parameters,
        source=annotations.source,
    )
    return proposals, [outcome.fault for outcome in outcomes if outcome.fault is not None]


def _outcomes(jobs: Sequence[Job], propose: ProposalSource, folder: Path | None, num_workers: int) -> Iterator[Outcome]:
    work = partial(propose_file, propose=propose, folder=folder)
    _warm_up(propose)  # compiles once, for the workers too
    if num_workers == 0:
        yield from map(work, jobs)
        return
    # spawned, not forked: a process that has used threads may hang when forked
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(num_workers, context, initializer=_start_worker, initargs=(propose,)) as pool:
            yield from pool.map(work, jobs)
    except BrokenProcessPool as error:
        raise UserError(
            f"num_workers={num_workers}: a process ended at once, perhaps for want of memory: use fewer, or 0; "
            "run again, what is done is kept in cache_dir"
        ) from error


def _start_worker(propose: ProposalSource) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(1)
    _warm_up(propose)


def _warm_up(propose: ProposalSource) -> None:
    """Load the compiled code now, so that no image's seconds hold it."""
    propose(np.zeros((32, 32, 3), np.uint8))
