"""Reproduce the test settings (resizing, thresholds, NMS) of the two programs called Darknet."""

from __future__ import annotations

from typing import NamedTuple

from detkit.checkpoint.content import Checkpoint
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.image.preprocess import Letterbox, Preprocess, Warp
from detkit.model.darknet.build_layer import HEADS
from detkit.model.darknet.section import Section, Sections, number_sections

PROGRAMS = {"pjreddie": "pjreddie's", "alexeyab": "AlexeyAB's"}
BETA = 0.6  # of DIoU-NMS, where a section asks for it and says no beta_nms


class Testing(NamedTuple):
    """preprocess: of the images. postprocess: the config of one. said: both, and whose they are, in a sentence."""

    preprocess: Preprocess
    postprocess: Settings
    said: str


def testing_of(sections: Sections, program: str = "alexeyab", letterbox: bool | None = None) -> Testing:
    """What `program` measures the mAP of a network with.

    pjreddie: `darknet detector valid`, which keeps the shape of images (letterbox) and suppresses by IoU. alexeyab:
    `darknet detector map`, which resizes them to the network's input whatever their shape, unless [net] has
    letter_box=1, and suppresses as nms_kind and beta_nms of the last head section say. Both keep scores above 0.005 and
    suppress at 0.45, and test YOLO v1, a [detection] section, by `darknet yolo valid`: resized, above 0.001, at 0.5.
    letterbox: whether images keep their shape; None: as the program does it.
    Raises UserError for another program, and where the input of a letterbox is no square.
    """
    if program not in PROGRAMS:
        raise UserError(f"darknet.test={program}: choose {' or '.join(PROGRAMS)}")
    net, layers = number_sections(sections)
    heads = [section for section in layers if section.name in HEADS]
    first_version = any(head.name == "detection" for head in heads)
    if letterbox is None:
        asked = program == "pjreddie" or bool(net.integer("letter_box", 0))
        letterbox = asked and not first_version
    kind, beta = ("iou", 1.0) if program == "pjreddie" or not heads else _suppression(heads[-1])
    postprocess = {
        "_target_": "detkit.model.postprocess.NMSPostprocess",
        "score_threshold": 0.001 if first_version else 0.005,
        "nms_iou": 0.5 if first_version else 0.45,
        "max_detections": 300,
        "nms_kind": kind,
        "beta_nms": beta,
    }
    preprocess = _preprocess(net, letterbox)
    verb = "yolo valid" if first_version else "detector valid" if program == "pjreddie" else "detector map"
    width, height = net.integer("width"), net.integer("height")
    said = (
        f"tested as by {PROGRAMS[program]} `darknet {verb}`: images "
        f"{'within' if letterbox else 'resized to'} {width}x{height}{'' if letterbox else ' whatever their shape'}, "
        f"scores above {postprocess['score_threshold']}, NMS at {_overlap(kind, beta)} {postprocess['nms_iou']}"
    )
    return Testing(preprocess, postprocess, said)


def with_program(checkpoint: Checkpoint, *, test: str | None = None, letterbox: bool | None = None) -> Checkpoint:
    """A copy of a checkpoint that holds a Darknet network with the test settings of `testing_of`.

    Where both are None it stays as it is; test is alexeyab where letterbox alone is given. Raises UserError where there
    is no such network in it.
    """
    if test is None and letterbox is None:
        return checkpoint
    if "sections" not in checkpoint.model_config:
        key = "letterbox" if test is None else "test"
        raise UserError(f"darknet.{key}: the checkpoint holds no Darknet network, which came from a .cfg")
    testing = testing_of(checkpoint.model_config["sections"], test or "alexeyab", letterbox)
    return checkpoint.tested_with(
        preprocess=testing.preprocess.to_dict(), postprocess=testing.postprocess, tested_as=testing.said
    )


def _preprocess(net: Section, letterbox: bool) -> Preprocess:
    height, width = net.integer("height"), net.integer("width")
    if not letterbox:
        return Warp(height=height, width=width)
    if height != width:
        raise net.error(
            f"a letterbox with an input of {width}x{height}: only squares are supported; darknet.letterbox=false "
            "resizes images whatever their shape"
        )
    return Letterbox(size=width, fill=127)


def _suppression(head: Section) -> tuple[str, float]:
    kind = head.word("nms_kind", "default")
    beta = head.number("beta_nms", BETA)
    return ("diou", beta) if kind == "diounms" else ("iou", 1.0)  # cornersnms suppresses by IoU, too


def _overlap(kind: str, beta: float) -> str:
    return "IoU" if kind == "iou" else f"DIoU (beta {beta:g})"
