"""The verb `propose`: proposals for every image of a data set, in parallel, cached, measured."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from detkit.config import build
from detkit.data.annotations import Annotations
from detkit.data.check import read_splits
from detkit.data.split import describe_faults, read_split
from detkit.errors import UserError
from detkit.proposal.cache import Job, Outcome, Propose, parameter_hash, propose_file
from detkit.proposal.proposal_file import write_proposals
from detkit.proposal.proposals import Proposals
from detkit.proposal.report import format_report, measure_proposals, plot_proposals
from detkit.proposal.selective_search import SelectiveSearch, selective_search
from detkit.visualize.plots import save_plot


def run_propose(config: DictConfig) -> dict[str, Any]:
    """The verb `propose`: for each split a file of proposals, a report as json and as picture; gives the reports."""
    source = build(OmegaConf.to_container(config.proposal, throw_on_missing=True))
    chosen = config.split
    splits = read_splits(config.data) if chosen is None else {chosen: read_split(config.data, chosen)}
    reports = {}
    for split, images in splits.items():
        if images.faults:
            print(f"{split}: left out by the reader: {describe_faults(images)}")
        if isinstance(source, Proposals):
            proposals = source.select(list(images.image_ids))
        else:
            proposals, faults = propose_split(
                images,
                source,
                seed=config.seed,
                num_workers=config.num_workers,
                cache_dir=None if config.cache_dir is None else Path(config.cache_dir).expanduser(),
            )
            _tell(faults, config.data.repair)
        path = proposal_path(config.output, split)
        write_proposals(path, proposals)
        reports[split] = measure_proposals(proposals, images)
        path.with_suffix(".json").write_text(json.dumps(reports[split], indent=1) + "\n", encoding="utf-8")
        save_plot(plot_proposals(reports[split]), path.with_suffix(".png"))
        print(f"{format_report(reports[split])}\nwritten to {path}")
    return reports


def proposal_path(folder: str | Path, split: str) -> Path:
    """The file of a split in a folder of proposals: "VOC2007/trainval" is VOC2007_trainval.npz."""
    return Path(folder).expanduser() / f"{str(split).replace('/', '_')}.npz"


def propose_split(
    annotations: Annotations, settings: SelectiveSearch, *, seed: int, num_workers: int, cache_dir: Path | None
) -> tuple[Proposals, list[str]]:
    """Selective search on all images, and a sentence for each that could not be read (it gets no boxes).

    num_workers: processes, each on one core; 0: this one. What is in `cache_dir` already is not computed again.
    The result does not depend on either, but for the seconds.
    """
    parameters = {"method": "selective_search", **settings.parameters(seed)}
    propose: Propose = partial(selective_search, settings=settings, seed=seed)
    folder = None if cache_dir is None else cache_dir / f"selective_search-{parameter_hash(parameters)}"
    jobs = [
        Job(path, (int(height), int(width)))
        for path, (height, width) in zip(annotations.image_paths, annotations.sizes, strict=True)
    ]
    found = _outcomes(jobs, propose, folder, num_workers)
    outcomes = list(tqdm(found, desc="proposing", total=len(jobs), unit="image", disable=None))
    proposals = Proposals.pack(
        list(annotations.image_ids),
        [outcome.boxes for outcome in outcomes],
        [outcome.seconds for outcome in outcomes],
        method="selective_search",
        parameters=parameters,
        source=annotations.source,
    )
    return proposals, [outcome.fault for outcome in outcomes if outcome.fault is not None]


def _outcomes(jobs: Sequence[Job], propose: Propose, folder: Path | None, num_workers: int) -> Iterator[Outcome]:
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


def _start_worker(propose: Propose) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(1)
    _warm_up(propose)


def _warm_up(propose: Propose) -> None:
    """Load the compiled code now, so that no image's seconds hold it."""
    propose(np.zeros((32, 32, 3), np.uint8))


def _tell(faults: Sequence[str], repair: str) -> None:
    if faults and repair == "error":
        raise UserError(f"{faults[0]} (and {len(faults) - 1} more; data.repair=error)")
    for fault in faults:
        print(f"no proposals: {fault}")
