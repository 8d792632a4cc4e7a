"""Read a Darknet `.cfg`, with its `.weights` and `.names`, as a checkpoint, and write one back."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from detkit.checkpoint.build import build_detector, build_from_checkpoint
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.darknet.cfg import format_cfg, line_of_section, read_cfg
from detkit.checkpoint.darknet.program import testing_of
from detkit.checkpoint.darknet.unused import unused_keys
from detkit.checkpoint.darknet.weights import dump_weights, load_weights
from detkit.core.errors import UserError
from detkit.core.text_file import read_lines
from detkit.model.darknet.classes import count_classes, with_classes
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import SectionError

BUILDER = "detkit.model.darknet.detector.build_darknet"


def read_darknet(cfg: str | Path) -> Checkpoint:
    """Read the checkpoint that a `.cfg` file is.

    Beside it lie the `.weights` of the same stem and the class names: `<stem>.names`, or another `.names` file with as
    many lines as there are classes; without one they are numbers, or of 80 classes COCO's. Images are resized and
    detections found as AlexeyAB's program does it (`testing_of`; `with_program` has another).
    Two sentences for the log come with it: `tested_as`, whose settings of a test these are, and for a training
    `unused`, which keys of the file have no effect.
    Raises UserError naming file, section, line and byte of what does not fit.
    """
    cfg = Path(cfg)
    sections = read_cfg(cfg)
    model: dict[str, object] = {
        "_target_": BUILDER,
        "_convert_": "all",
        "sections": [[name, options] for name, options in sections],
        "revision": 2,
    }
    try:
        classes = read_names(cfg, count_classes(sections))
        testing = testing_of(sections)
        model["postprocess"] = testing.postprocess
        detector = build_detector(model, len(classes), testing.preprocess)
    except SectionError as error:
        raise UserError(f"{cfg}, line {line_of_section(cfg, error.index)}: {error}") from error
    except UserError as error:
        raise UserError(f"{cfg}: {error}") from error
    network = detector.get_submodule("backbone")
    assert isinstance(network, DarknetNetwork)
    load_weights(network, cfg.with_suffix(".weights"))
    return Checkpoint(
        model=detector.state_dict(),
        config={"model": model},
        classes=classes,
        preprocess=testing.preprocess.to_dict(),
        tested_as=testing.said,
        unused=describe_unused(network),
    )


def describe_unused(network: DarknetNetwork) -> str:
    """The keys of the file that nothing has read, in a sentence; empty where there are none."""
    keys = "; ".join(f"[{name}] {', '.join(found)}" for name, found in unused_keys(network).items())
    return f"keys of the .cfg that are not used here: {keys}" if keys else ""


def coco_names() -> list[str]:
    """The 80 classes of COCO, by ascending id."""
    categories: list[str] = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [name for name in categories if name not in ("__background__", "N/A")]


def write_darknet(checkpoint: Checkpoint, cfg: str | Path) -> None:
    """Write the `.cfg`, `.weights` and `.names` of a checkpoint that holds a Darknet network.

    The weights are the averaged ones where the training kept them. Raises UserError for any other model.
    """
    detector = build_from_checkpoint(checkpoint)
    network = getattr(detector, "backbone", None)
    if not isinstance(network, DarknetNetwork):
        raise UserError("only a detector that came from a Darknet .cfg can be written as one")
    cfg = Path(cfg)
    sections = with_classes(checkpoint.model_config["sections"], len(checkpoint.classes))
    cfg.parent.mkdir(parents=True, exist_ok=True)
    cfg.with_suffix(".weights").write_bytes(dump_weights(network))
    cfg.with_suffix(".names").write_text("".join(f"{name}\n" for name in checkpoint.classes), encoding="utf-8")
    cfg.write_text(format_cfg(sections), encoding="utf-8")


def read_names(cfg: Path, num_classes: int) -> list[str]:
    """The class names beside a `.cfg` file; without any they are COCO's, where there are 80, or numbers.

    Raises UserError where none of several files fits, or the only one not.
    """
    own = cfg.with_suffix(".names")
    found = [own] if own.is_file() else sorted(cfg.parent.glob("*.names"))
    if not found:
        return coco_names() if num_classes == 80 else [str(label) for label in range(num_classes)]
    lists = {path: read_lines(path) for path in found}
    fitting = [lines for lines in lists.values() if len(lines) == num_classes]
    if len(fitting) == 1 or (fitting and all(lines == fitting[0] for lines in fitting)):
        return fitting[0]
    counts = ", ".join(f"{path.name}: {len(lines)}" for path, lines in lists.items())
    raise UserError(
        f"it has {num_classes} classes; their names are not clear from the files beside it ({counts}): "
        f"put one name a line into {own}"
    )
