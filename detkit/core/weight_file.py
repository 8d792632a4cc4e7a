"""Read weight files of any project without running code, or say what they are instead."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detkit.core.errors import UserError

Value = TypeVar("Value")

COMPILED = "_orig_mod."  # torch.compile; also in the middle of a name, where a part was compiled
PREFIXES = ("module.", "model.", COMPILED)  # DistributedDataParallel and EMA; Lightning and many others
# Where trainings keep the weights among the rest; the averaged ones first.
ENTRIES = ("model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state", "model", "net", "weights")
# How files begin that are downloaded or written in place of weights.
STRANGERS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
    b"<!doctype html": "a web page, not the file that it links to: download it again",
    b"<html": "a web page, not the file that it links to: download it again",
    b"<?xml": "an XML file, such as a server's error message: download it again",
    b"\x89hdf": "an HDF5 file, of Keras or TensorFlow",
    b"\x1f\x8b": "a gzip archive: unpack it first",
}


def read_weight_file(path: Path, map_location: str | torch.device = "cpu") -> object:
    """What a file of PyTorch or of safetensors holds: tensors and plain data.

    Also `argparse.Namespace`, plain data too, in which the training scripts of torchvision keep their settings.
    Raises UserError that says in one line what the file is instead.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path} is empty: its download or its writing was cut off")
    for start, meaning in STRANGERS.items():
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[: len(start)].lower() == start:
            raise UserError(f"{path} is {meaning}")
    if path.suffix.lower() == ".safetensors" or head[8:9] == b"{":  # which follows the length of its header
        try:
            return load_file(path, device=str(map_location))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no whole file of safetensors: {error}") from error
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of programs and odd pickles, which are refused in the same breath
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # of bytes that are no weights: whatever the unpickler came upon first
        raise UserError(f"{path} is not a detkit checkpoint, nor a file of other weights: {_reason(error)}") from error


def weights_in(content: object) -> dict[str, Tensor]:
    """The weights by name in what `read_weight_file` gives, without what wrappers put before their names; or none."""
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in ENTRIES if isinstance(content.get(key), Mapping)), content)
    return without_wrappers({str(name): value for name, value in inner.items() if isinstance(value, Tensor)})


def without_wrappers(weights: Mapping[str, Value], wanted: Collection[str] = ()) -> dict[str, Value]:
    """`weights` without the prefixes that all their names have; where one is `wanted` as it is, names stay."""
    names = {name: value for name, value in weights.items() if name != "n_averaged"}  # of PyTorch's AveragedModel
    while names and not any(name in wanted for name in names):
        prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in names)), None)
        if prefix is None:
            inner = {name.replace(COMPILED, ""): value for name, value in names.items()}
            return inner if len(inner) == len(names) else names
        names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in one line; what it asked to be run is named."""
    text = " ".join(str(error).split())
    if "TorchScript" in text:
        return "a TorchScript program, which may run code; save the state dict of the model instead"
    if "GLOBAL " in text:
        return f"it names {text.partition('GLOBAL ')[2].split()[0]}, and no code of a file is run; save tensors alone"
    if "PytorchStreamReader" in text or "unexpected EOF" in text or isinstance(error, EOFError):
        return "it is cut off or damaged; copy or download it again"
    return f"PyTorch cannot read it ({type(error).__name__})"
