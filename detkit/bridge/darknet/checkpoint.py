"""A Darknet `.cfg`, with its `.weights` and `.names`, as the content of a detkit checkpoint; and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.bridge.darknet.cfg import format_cfg, read_cfg
from detkit.bridge.darknet.weights import dump_weights, load_weights
from detkit.config import build_detector, build_from_checkpoint
from detkit.data.preprocess import Letterbox, Preprocess, Warp
from detkit.errors import UserError
from detkit.model.darknet.classes import count_classes, with_classes
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import Sections, number_sections
from detkit.text_file import read_lines

BUILDER = "detkit.model.darknet.detector.build_darknet"


def read_darknet(cfg: str | Path) -> dict[str, Any]:
    """What `load_checkpoint` gives for a `.pt`, of the network in a `.cfg` file.

    Beside it lie the `.weights` of the same stem and the class names: `<stem>.names`, or another `.names` file with as
    many lines as there are classes; without one they are numbers. Images are resized to the network's width and
    height, whatever their shape (with letter_box=1 in [net] they keep it), and detections found with Darknet's own
    settings of a test: scores above 0.005, NMS at an IoU of 0.45.
    Raises UserError naming file, section and byte of what does not fit.
    """
    cfg = Path(cfg)
    sections = read_cfg(cfg)
    model = {
        "_target_": BUILDER,
        "_convert_": "all",
        "sections": [[name, options] for name, options in sections],
        "postprocess": {
            "_target_": "detkit.model.postprocess.NMSPostprocess",
            "score_threshold": 0.005,
            "nms_iou": 0.45,
            "max_detections": 300,
        },
    }
    try:
        classes = read_names(cfg, count_classes(sections))
        preprocess = preprocess_of(sections)
        detector = build_detector(model, len(classes), preprocess)
    except UserError as error:
        raise UserError(f"{cfg}: {error}") from error
    load_weights(detector.backbone, cfg.with_suffix(".weights"))  # type: ignore[arg-type]
    return {
        "model": detector.state_dict(),
        "ema": None,
        "config": {"model": model, "data": dict.fromkeys(("train_split", "val_split", "test_split", "classes"))},
        "classes": classes,
        "preprocess": preprocess.to_dict(),
        "position": {"epoch": 0, "batch": 0, "step": 0, "elapsed_s": 0.0},
    }


def preprocess_of(sections: Sections) -> Preprocess:
    """How a network wants its images: plainly resized, or with letter_box=1 whole on grey, its input then a square."""
    net, _ = number_sections(sections)
    height, width = net.integer("height"), net.integer("width")
    if not net.integer("letter_box", 0):
        return Warp(height=height, width=width)
    if height != width:
        raise net.error(f"letter_box=1 with an input of {width}x{height}: only squares are supported")
    return Letterbox(size=width, fill=127)


def write_darknet(checkpoint: Mapping[str, Any], cfg: str | Path) -> None:
    """Write the `.cfg`, `.weights` and `.names` of a checkpoint (the content of a `.pt`) that holds a Darknet network.

    The weights are the averaged ones where the training kept them. Raises UserError for any other model.
    """
    detector = build_from_checkpoint(checkpoint)
    network = getattr(detector, "backbone", None)
    if not isinstance(network, DarknetNetwork):
        raise UserError("only a detector that came from a Darknet .cfg can be written as one")
    cfg = Path(cfg)
    sections = with_classes(checkpoint["config"]["model"]["sections"], len(checkpoint["classes"]))
    cfg.parent.mkdir(parents=True, exist_ok=True)
    cfg.with_suffix(".weights").write_bytes(dump_weights(network))
    cfg.with_suffix(".names").write_text("".join(f"{name}\n" for name in checkpoint["classes"]), encoding="utf-8")
    cfg.write_text(format_cfg(sections), encoding="utf-8")


def read_names(cfg: Path, num_classes: int) -> list[str]:
    """The class names beside a `.cfg` file. Raises UserError where none of several files fits, or the only one not."""
    own = cfg.with_suffix(".names")
    found = [own] if own.is_file() else sorted(cfg.parent.glob("*.names"))
    if not found:
        return [str(label) for label in range(num_classes)]
    lists = {path: read_lines(path) for path in found}
    fitting = [lines for lines in lists.values() if len(lines) == num_classes]
    if len(fitting) == 1 or (fitting and all(lines == fitting[0] for lines in fitting)):
        return fitting[0]
    counts = ", ".join(f"{path.name}: {len(lines)}" for path, lines in lists.items())
    raise UserError(
        f"it has {num_classes} classes; their names are not clear from the files beside it ({counts}): "
        f"put one name a line into {own}"
    )
