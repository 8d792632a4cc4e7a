"""Assemble the parts of a detector, and check what each must have for the next one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.config.instantiate import complete, name_of
from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec, Size
from detkit.model.protocols import Backbone, Neck, Part

IMAGES = "of the images that its weights were trained on, RGB on 0..255, such as (123.675, 116.28, 103.53)"


def require(part: object, key: str, **needed: str) -> None:
    """Raise UserError for the first attribute that the part at `key` lacks, with what it should be."""
    for name, meaning in needed.items():
        if not hasattr(part, name):
            raise UserError(f"{key} ({name_of(part)}) has no {name}: {meaning}")


def features_of(part: object, key: str) -> list[FeatureSpec]:
    """Return the maps that the backbone or neck at `key` declares; raises UserError if it does not do so well."""
    require(part, key, features="a list of FeatureSpec(channels, stride), one for each map it gives, finest first")
    features: object = getattr(part, "features", None)
    if (
        not isinstance(features, Sequence)
        or len(features) == 0
        or not all(hasattr(feature, "channels") and hasattr(feature, "stride") for feature in features)
    ):
        raise UserError(
            f"{key} ({name_of(part)}).features={features}: expected a list of FeatureSpec(channels, stride) of "
            "detkit.core.structures, one for each map it gives, finest first"
        )
    return list(features)


def build_maps(
    backbone: Part[Backbone], strides: Sequence[int], neck: Part[Neck] | None
) -> tuple[Backbone, Neck | nn.Identity, list[FeatureSpec]]:
    """Build the backbone and the neck (the identity, if None), and list the maps of both together, fine to coarse."""
    if not isinstance(strides, Sequence) or not all(isinstance(s, int) and s > 0 for s in strides) or not strides:
        raise UserError(f"model.strides={strides}: expected whole numbers from fine to coarse, such as [8,16,32]")
    trunk: Backbone = complete(backbone, "model.backbone", strides=strides)
    check_module(trunk, "model.backbone", mean=IMAGES, std=IMAGES)
    features = _features_at(trunk, strides)
    if neck is None:
        return trunk, nn.Identity(), features
    pyramid: Neck = complete(neck, "model.neck", features=features)
    check_module(pyramid, "model.neck")
    return trunk, pyramid, features_of(pyramid, "model.neck")


def _features_at(trunk: Backbone, strides: Sequence[int]) -> list[FeatureSpec]:
    """Return the maps of a built backbone that was asked for `strides`; raises UserError if it has others."""
    features = features_of(trunk, "model.backbone")
    given = [feature.stride for feature in features]
    if given != list(strides):
        raise UserError(
            f"model.strides={list(strides)}: model.backbone ({name_of(trunk)}) gives maps of strides {given}"
            + (
                ": name strides from fine to coarse"
                if sorted(strides) == given
                else "; set model.strides=[{','.join(map(str, given))}]"
            )
        )
    return features


def one_width(features: Sequence[FeatureSpec], key: str) -> int:
    """Return the common number of channels of maps that one part reads; raises UserError if they differ."""
    channels = [feature.channels for feature in features]
    if len(set(channels)) > 1:
        alike = ",".join(["96"] * len(channels))
        raise UserError(
            f"{key} reads {len(channels)} maps alike, but they have {', '.join(map(str, channels))} channels: several "
            f"maps need a pyramid, such as model/neck=fpn (of model/neck=pafpn: model.neck.channels=[{alike}])"
        )
    return channels[0]


def read_maps(backbone: Backbone, neck: Neck | nn.Identity, images: Tensor) -> list[Tensor]:
    """Run backbone and neck on images [B, 3, H, W]; raises UserError if a part gives other maps than it declares."""
    canvas = (images.shape[2], images.shape[3])
    try:
        maps = backbone(images)
    except RuntimeError as error:
        coarsest = max(feature.stride for feature in backbone.features)
        if min(canvas) >= coarsest:
            raise
        raise UserError(
            f"images of {canvas[0]} x {canvas[1]} pixels have no room for a cell of the map of stride {coarsest}: "
            "take a "
            "larger preprocess"
        ) from error
    return check_maps(neck(check_maps(maps, backbone, "model.backbone", canvas)), neck, "model.neck")


def check_maps(maps: list[Tensor], part: object, key: str, canvas: Size | None = None) -> list[Tensor]:
    """Return `maps` if they are what the part declares; raises UserError.

    canvas: (h, w) of the images, if the strides are to be checked too.
    """
    features = getattr(part, "features", None)
    if features is None:
        return maps
    who = f"{key} ({name_of(part)})"
    if not isinstance(maps, (list, tuple)) or not all(isinstance(feature, Tensor) for feature in maps):
        raise UserError(f"{who} must return a list of maps [B, C, H, W], finest first; it returned a {name_of(maps)}")
    shapes = [tuple(feature.shape) for feature in maps]
    said = [(feature.channels, feature.stride) for feature in features]
    if [shape[1:2] for shape in shapes] != [(channels,) for channels, _ in said] or {len(s) for s in shapes} != {4}:
        raise UserError(f"{who} says that its maps are (channels, stride) {said}; it returned the shapes {shapes}")
    if canvas is None:
        return list(maps)
    for shape, (_, stride) in zip(shapes, said, strict=True):
        for cells, side in zip(shape[2:], canvas, strict=True):
            if abs(cells - side / stride) > 1 + side / stride / 4:
                raise UserError(
                    f"{who} says that a map has stride {stride}; of {canvas[0]} x {canvas[1]} pixels it has "
                    f"{shape[2]} x {shape[3]} cells, which is a stride of about {max(1, round(side / cells))}"
                )
    return list(maps)


def check_losses(losses: dict[str, Tensor], part: object, key: str) -> dict[str, Tensor]:
    """Return `losses` if they are scalar tensors by name; raises UserError."""
    if not isinstance(losses, dict) or not all(isinstance(v, Tensor) and v.ndim == 0 for v in losses.values()):
        raise UserError(
            f"{key} ({name_of(part)}).loss must return a dict of scalar tensors by name; it returned a "
            f"{name_of(losses)}"
        )
    return losses


def check_module(part: object, key: str, **needed: str) -> None:
    """Raise UserError if the built part at `key` is no module of PyTorch, or lacks what is `needed` of it."""
    if not isinstance(part, nn.Module):
        raise UserError(f"{key} ({name_of(part)}) is no torch.nn.Module")
    require(part, key, **needed)


def names_within(path: str, part: object, attribute: str) -> list[str]:
    """List the dotted names of the submodules that a class attribute of the part at `path` names; none without it."""
    return [f"{path}.{name}" for name in getattr(part, attribute, ())]
