"""Three small networks of Darknet, one of each kind of head, as detectors and as files."""

from __future__ import annotations

from pathlib import Path

import torch
from scenes import SIZE

from detkit.checkpoint.darknet.cfg import parse_cfg
from detkit.checkpoint.darknet.weights import dump_weights
from detkit.image.preprocess import Warp
from detkit.model.darknet.detector import build_darknet
from detkit.model.one_stage import OneStageDetector
from detkit.model.postprocess import NMSPostprocess


def conv(filters: int, size: int, stride: int = 1) -> str:
    normal = f"size={size}\nstride={stride}\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    return f"[convolutional]\nfilters={filters}\n{normal}"


NET = f"[net]\nwidth={SIZE[1]}\nheight={SIZE[0]}\nchannels=3\n"
BODY = NET + conv(16, 3, 2) + conv(32, 3, 2) + conv(64, 3, 2)
LAST = "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
YOLO = "[yolo]\nmask={}\nanchors=24,24, 32,32, 40,40, 60,60\nnum=4\nclasses=2\nignore_thresh=.5\n"
CFGS = {
    "yolo": BODY
    + (conv(64, 3, 2) + LAST + YOLO.format("2,3"))
    + ("[route]\nlayers=-3\n" + conv(32, 1) + "[upsample]\nstride=2\n[route]\nlayers=-1,2\n" + conv(64, 3))
    + (LAST + YOLO.format("0,1")),
    "region": BODY
    + (conv(64, 3) + "[route]\nlayers=1\n" + conv(16, 1) + "[reorg]\nstride=2\n[route]\nlayers=-1,-4\n" + conv(64, 3))
    + (
        LAST + "[region]\nanchors=2.8,2.8, 3.8,3.8\nnum=2\nclasses=2\nsoftmax=1\nrescore=1\nobject_scale=5\nthresh=.6\n"
    ),
    "detection": BODY
    + (conv(64, 3, 2) + "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=192\nactivation=linear\n")
    + "[detection]\nside=4\nnum=2\nclasses=2\ncoords=4\nsqrt=1\nrescore=1\ncoord_scale=5\nnoobject_scale=.5\n",
}


def build(kind: str, num_classes: int = 2) -> OneStageDetector:
    torch.manual_seed(0)
    return build_darknet(
        sections=parse_cfg(CFGS[kind]),
        postprocess=NMSPostprocess(score_threshold=0.05, nms_iou=0.45),
        num_classes=num_classes,
        preprocess=Warp(height=SIZE[0], width=SIZE[1]),
        revision=2,
    )


def write_files(folder: Path, kind: str) -> Path:
    """The `.cfg` of a network, with its `.weights`, random, beside it; returns its path."""
    detector = build(kind)
    torch.nn.init.uniform_(detector.backbone.layers[0].norm.running_mean, -1, 1)
    cfg = folder / f"{kind}.cfg"
    cfg.write_text(CFGS[kind])
    cfg.with_suffix(".weights").write_bytes(dump_weights(detector.backbone))
    return cfg
