"""Run `detkit propose`: compute proposals for a data set and measure their recall."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detkit.config.instantiate import build
from detkit.data.quality.check import read_splits
from detkit.data.quality.content import require_images
from detkit.data.split import describe_reading, read_split
from detkit.proposal.proposal_file import write_proposals
from detkit.proposal.report import format_report, measure_proposals, plot_proposals
from detkit.proposal.split_proposals import find_proposals
from detkit.view.plots import save_plot


def run_propose(config: DictConfig) -> Mapping[str, Mapping[str, object]]:
    """The verb `propose`: for each split a file of proposals, a report as json and as picture; gives the reports."""
    source = build(OmegaConf.to_container(config.proposal, throw_on_missing=True), "proposal")
    chosen = config.split
    splits = read_splits(config.data) if chosen is None else {chosen: read_split(config.data, chosen)}
    reports = {}
    for split, images in splits.items():
        require_images(images)
        for line in describe_reading(images):
            print(line)
        proposals = find_proposals(
            source, images, num_workers=config.num_workers, cache_dir=config.cache_dir, repair=config.data.repair
        )
        assert proposals is not None
        path = proposal_path(config.output, split)
        write_proposals(path, proposals)
        report = measure_proposals(proposals, images)
        reports[split] = report.to_dict()
        path.with_suffix(".json").write_text(json.dumps(reports[split], indent=1) + "\n", encoding="utf-8")
        save_plot(plot_proposals(report), path.with_suffix(".png"))
        print(f"{format_report(report)}\nwritten to {path}")
    return reports


def proposal_path(folder: str | Path, split: str) -> Path:
    """The file of a split in a folder of proposals: "VOC2007/trainval" is VOC2007_trainval.npz."""
    return Path(folder).expanduser() / f"{str(split).replace('/', '_')}.npz"
