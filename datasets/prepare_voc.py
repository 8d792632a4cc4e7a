"""PASCAL VOC 2007 and 2012 in the layout of detkit's configs data=voc07 and data=voc0712.

python datasets/prepare_voc.py [--root datasets/VOCdevkit] [--years 2007 2012] [--archives DIR] [--no-download]

Writes ROOT/VOC2007 (trainval 5011 images, test 4952) and ROOT/VOC2012 (trainval 11540); the archives have 2.9 GB.
The test annotations of 2012 were never published.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fetch import Archive, FetchError, add_arguments, prepare, run

OXFORD = ("http://host.robots.ox.ac.uk/pascal/VOC", "https://thor.robots.ox.ac.uk/pascal/VOC")
MIRROR = "https://data.pjreddie.com/files"


def _archive(year: int, name: str, size: int, md5: str) -> Archive:
    return Archive(name, size, md5, (*(f"{base}/voc{year}/{name}" for base in OXFORD), f"{MIRROR}/{name}"))


ARCHIVES = {
    2007: (
        _archive(2007, "VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64"),
        _archive(2007, "VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f"),
    ),
    2012: (_archive(2012, "VOCtrainval_11-May-2012.tar", 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd"),),
}
SPLITS = {2007: ("train", "val", "trainval", "test"), 2012: ("train", "val", "trainval")}


def prepare_voc(root: Path, years: Sequence[int], folder: Path | None, download: bool) -> None:
    """Get and unpack the archives of `years`, and count what is there; raises FetchError."""
    for year in years:
        prepare(ARCHIVES[year], root, folder, download, strip="VOCdevkit")
        for split in SPLITS[year]:
            print(f"VOC{year} {split}: {_count(root / f'VOC{year}', split)} images")


def _count(folder: Path, split: str) -> int:
    """How many images a split has; raises FetchError where a picture or its annotation is not there."""
    try:
        ids = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    except OSError as error:
        raise FetchError(f"the archives held no list of {split}: {error}") from error
    for image_id in ids:
        for path in (folder / "JPEGImages" / f"{image_id}.jpg", folder / "Annotations" / f"{image_id}.xml"):
            if not path.is_file():
                raise FetchError(f"{path} is missing: delete the .done files in {folder.parent} and run this again")
    return len(ids)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "datasets/VOCdevkit")
    parser.add_argument("--years", type=int, nargs="+", default=[2007, 2012], choices=sorted(ARCHIVES))
    options = parser.parse_args(argv)
    return run(lambda: prepare_voc(options.root, options.years, options.archives, not options.no_download))


if __name__ == "__main__":
    raise SystemExit(main())
