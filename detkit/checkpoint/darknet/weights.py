"""Darknet's `.weights` files: a header, then the numbers of every section in order, float32, little end first.

A [convolutional] section has its biases, then with batch norm scales, means and variances, then its kernels
[out, in / groups, size, size]. A [connected] one has biases, its matrix [out, in], then scales, means and variances.
A [local] one has biases [out, rows, columns], then of each place its kernels [out, in, size, size]. A convolution that
has its weights from another one has none in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import Section
from detkit.model.darknet.weighted import Connected, Convolutional, Local


def load_weights(network: DarknetNetwork, path: str | Path) -> None:
    """Fill `network`, its header included, from a `.weights` file of any version.

    Raises UserError naming file, section and byte where the file is too short or too long for the network.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; the weights lie beside the .cfg, under the same stem"
        ) from error
    header, position = parse_header(content, str(path))
    network.header.copy_(torch.tensor(header))
    last = "the header"
    for section, parts in weighted_sections(network):
        size = 4 * sum(part.numel() for part in parts)
        if position + size > len(content):
            raise UserError(
                f"{path} ends at byte {len(content)}, but {section} needs bytes {position} to {position + size}: "
                "the file is cut short, or of another network"
            )
        for part in parts:
            values = np.frombuffer(content, "<f4", part.numel(), position)
            part.copy_(_as_stored(torch.from_numpy(values.copy()), part, header))
            position += 4 * part.numel()
        last = str(section)
    if position != len(content):
        raise UserError(
            f"{path} has {len(content)} bytes, but {last}, the last with weights, ends at byte {position}: "
            "the file is of another network"
        )


def dump_weights(network: DarknetNetwork) -> bytes:
    """The `.weights` file of `network`, of the version that its header names: what was loaded comes out byte for byte.

    Raises UserError where batch norms have been folded away, as they are in a detector made ready to predict.
    """
    header: list[int] = network.header.tolist()
    chunks = [format_header(header)]
    for section, parts in weighted_sections(network):
        if section.integer("batch_normalize", 0) and len(parts) < 5:
            raise section.error("its batch norm has been folded into its weights: write from the checkpoint instead")
        for part in parts:
            values = part.detach().cpu().contiguous()
            if _is_transposed(header) and part.ndim == 2:
                values = values.t().contiguous()
            chunks.append(values.numpy().astype("<f4", copy=False).tobytes())
    return b"".join(chunks)


def parse_header(content: bytes, source: str) -> tuple[list[int], int]:
    """([major, minor, revision, images seen], bytes it takes). Images seen are 64 bits wide from version 0.2 on."""
    try:
        major, minor, revision = struct.unpack_from("<3i", content)
        kind = "<Q" if _is_long(major, minor) else "<I"
        (seen,) = struct.unpack_from(kind, content, 12)
    except struct.error:
        raise UserError(f"{source} ends at byte {len(content)}, within the header of a .weights file") from None
    if seen >= 2**63:
        raise UserError(f"{source}: byte 12: {seen} images seen: this is no .weights file")
    return [major, minor, revision, seen], 12 + struct.calcsize(kind)


def format_header(header: list[int]) -> bytes:
    """The bytes that `parse_header` reads."""
    major, minor, revision, seen = header
    return struct.pack("<3i", major, minor, revision) + struct.pack("<Q" if _is_long(major, minor) else "<I", seen)


def weighted_sections(network: DarknetNetwork) -> Iterator[tuple[Section, list[Tensor]]]:
    """Every section that has weights with its tensors, in the order of the file."""
    for section, layer in zip(network.sections, network.layers, strict=True):
        if isinstance(layer, Convolutional):
            biases, statistics = _offsets(layer.conv, layer.norm)
            yield section, [biases, *statistics, layer.conv.weight.data]
        elif isinstance(layer, Connected):
            biases, statistics = _offsets(layer.linear, layer.norm)
            yield section, [biases, layer.linear.weight.data, *statistics]
        elif isinstance(layer, Local):
            yield section, [layer.bias.data, layer.weight.data]


def _offsets(layer: nn.Conv2d | nn.Linear, norm: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """(biases, [scales, means, variances] or nothing)."""
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None and norm.running_var is not None
        return norm.bias.data, [norm.weight.data, norm.running_mean, norm.running_var]
    assert layer.bias is not None
    return layer.bias.data, []


def _as_stored(values: Tensor, part: Tensor, header: list[int]) -> Tensor:
    if _is_transposed(header) and part.ndim == 2:
        return values.view(part.shape[1], part.shape[0]).t()
    return values.view(part.shape)


def _is_long(major: int, minor: int) -> bool:
    return major * 10 + minor >= 2 and major < 1000 and minor < 1000


def _is_transposed(header: list[int]) -> bool:
    """Files of the oldest kind have the matrices of [connected] sections as [in, out], and say so by these numbers."""
    return header[0] > 1000 or header[1] > 1000
