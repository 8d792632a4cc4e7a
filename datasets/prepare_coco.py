"""COCO 2017 in the layout of detkit's config data=coco2017.

python datasets/prepare_coco.py [--root datasets/coco] [--splits train val] [--archives DIR] [--no-download]

Writes ROOT/annotations, ROOT/train2017 (118287 images, an archive of 19 GB) and ROOT/val2017 (5000 images, 0.8 GB).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from fetch import Archive, FetchError, add_arguments, prepare, run

SERVERS = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")


def _archive(path: str, size: int, md5: str) -> Archive:
    return Archive(path.rpartition("/")[2], size, md5, tuple(f"{server}/{path}" for server in SERVERS))


ANNOTATIONS = _archive("annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c")
IMAGES = {
    "train": _archive("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
    "val": _archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
}


def prepare_coco(root: Path, splits: Sequence[str], folder: Path | None, download: bool) -> None:
    """Get and unpack annotations and the images of `splits`, and count what is there; raises FetchError."""
    prepare([ANNOTATIONS, *(IMAGES[split] for split in splits)], root, folder, download)
    for split in splits:
        print(f"{split}2017: {_count(root, f'{split}2017')} images")


def _count(root: Path, split: str) -> int:
    """How many images a split has; raises FetchError where the json names a picture that is not there."""
    path = root / "annotations" / f"instances_{split}.json"
    try:
        names = {entry["file_name"] for entry in json.loads(path.read_bytes())["images"]}
        missing = names.difference(os.listdir(root / split))
    except (OSError, ValueError, KeyError) as error:
        raise FetchError(f"the archives held no readable {path.name} or no folder {split}: {error}") from error
    if missing:
        raise FetchError(
            f"{root / split} lacks {len(missing)} images, such as {min(missing)}: delete the .done files in {root} and "
            f"run this again"
        )
    return len(names)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "datasets/coco")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], choices=sorted(IMAGES))
    options = parser.parse_args(argv)
    return run(lambda: prepare_coco(options.root, options.splits, options.archives, not options.no_download))


if __name__ == "__main__":
    raise SystemExit(main())
