"""Darknet's files: `.cfg` text, `.weights` of every version, and what is said of those that do not fit."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit.checkpoint.darknet.cfg import format_cfg, parse_cfg, read_cfg
from detkit.checkpoint.darknet.weights import dump_weights, load_weights
from detkit.core.errors import UserError
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import number_sections

SMALL = """
[net]
width = 4
height=4
[convolutional]
filters=2
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[connected]
output=6
activation=linear
[region]
num=1
classes=1
anchors=1,1
"""
# biases, scales, means, variances, kernels [2, 3, 3, 3]; biases, matrix [6, 8]
NUMBERS = 4 * 2 + 54 + 6 + 48


def network(text: str = SMALL) -> DarknetNetwork:
    net, sections = number_sections(parse_cfg(text))
    return DarknetNetwork(net=net, sections=sections).eval()


def numbers() -> np.ndarray:
    return np.arange(1, NUMBERS + 1, dtype="<f4") / 10


def test_a_cfg_becomes_sections_and_back() -> None:
    text = "# a comment\n[net]\n width = 4\n; another\n\n[yolo]\nanchors = 1,2,  3,4\nanchors=9\nmask=0 # the first\n"
    sections = parse_cfg(text)
    assert sections == [("net", {"width": "4"}), ("yolo", {"anchors": "1,2,3,4", "mask": "0"})]
    assert parse_cfg(format_cfg(sections)) == sections


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[net]\nwidth 4\n", "x.cfg, line 2: width4 is neither"),
        ("[net\n", r"x.cfg, line 1: \[net is not a section"),
        ("width=4\n", "x.cfg, line 1: width=4 comes before"),
        ("# nothing\n", "x.cfg has no section"),
    ],
)
def test_a_cfg_that_is_none_is_told_by_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_cfg(text, "x.cfg")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.cfg cannot be read"):
        read_cfg(tmp_path / "no.cfg")
    with pytest.raises(UserError, match=r"no\.weights cannot be read: .* beside the \.cfg"):
        load_weights(network(), tmp_path / "no.weights")


@pytest.mark.parametrize(
    ("version", "width"),
    [((0, 1, 0), "<I"), ((0, 2, 5), "<Q"), ((1, 0, 0), "<Q"), ((0, 2000, 0), "<I"), ((7, 7, 7), "<Q")],
)
def test_every_version_is_read_and_written_byte_for_byte(
    tmp_path: Path, version: tuple[int, int, int], width: str
) -> None:
    content = struct.pack("<3i", *version) + struct.pack(width, 123456) + numbers().tobytes()
    (tmp_path / "x.weights").write_bytes(content)
    net = network()
    load_weights(net, tmp_path / "x.weights")
    assert net.header.tolist() == [*version, 123456]
    conv, norm, linear = net.layers[0].conv, net.layers[0].norm, net.layers[1].linear
    values = torch.from_numpy(numbers().copy())
    for index, part in enumerate((norm.bias, norm.weight, norm.running_mean, norm.running_var)):
        assert torch.equal(part, values[2 * index : 2 * index + 2])
    assert torch.equal(conv.weight, values[8:62].view(2, 3, 3, 3))
    assert torch.equal(linear.bias, values[62:68])
    matrix = values[68:].view(8, 6).t() if version[1] > 1000 else values[68:].view(6, 8)
    assert torch.equal(linear.weight, matrix)
    assert dump_weights(net) == content


def test_local_and_shared_weights_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    conv = "[convolutional]\nfilters=3\nsize=1\nactivation=linear\n"
    text = f"[net]\nwidth=3\nheight=2\n{conv}{conv}share_index=0\n[local]\nfilters=2\nsize=1\n[region]\nclasses=1\n"
    net = network(text)
    count = 3 + 9 + 2 * 6 + 6 * 2 * 3
    values = torch.arange(1, count + 1, dtype=torch.float32)
    content = struct.pack("<3iQ", 0, 2, 0, 0) + values.numpy().astype("<f4").tobytes()
    (tmp_path / "x.weights").write_bytes(content)
    load_weights(net, tmp_path / "x.weights")
    conv, local = net.layers[0].conv, net.layers[2]
    assert torch.equal(torch.cat([conv.bias, conv.weight.flatten()]), values[:12])
    assert torch.equal(local.bias.flatten(), values[12:24])
    assert local.weight[4, 1].tolist() == values[24 + (4 * 2 + 1) * 3 :][:3].tolist()
    assert dump_weights(net) == content


def test_more_images_seen_than_32_bits_hold_and_odd_numbers_survive(tmp_path: Path) -> None:
    odd = numbers()
    odd[:4] = [-7e-44, -0.0, 1e-40, 3e38]
    content = struct.pack("<3iQ", 0, 2, 0, 2**40) + odd.tobytes()
    (tmp_path / "x.weights").write_bytes(content)
    net = network()
    load_weights(net, tmp_path / "x.weights")
    again = network()
    again.load_state_dict(net.state_dict())
    assert dump_weights(again) == content


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (8, "ends at byte 8, within the header"),
        (18, "ends at byte 18, within the header"),
        (20, r"ends at byte 20, but section 0 \[convolutional\] needs bytes 20 to 268"),
        (267, r"ends at byte 267, but section 0 \[convolutional\] needs bytes 20 to 268"),
        (300, r"ends at byte 300, but section 1 \[connected\] needs bytes 268 to 484"),
        (488, r"has 488 bytes, but section 1 \[connected\], the last with weights, ends at byte 484"),
    ],
)
def test_a_file_of_the_wrong_size_names_section_and_byte(tmp_path: Path, size: int, message: str) -> None:
    content = struct.pack("<3iQ", 0, 2, 0, 0) + numbers().tobytes() + bytes(100)
    (tmp_path / "x.weights").write_bytes(content[:size])
    with pytest.raises(UserError, match=rf"x\.weights {message}"):
        load_weights(network(), tmp_path / "x.weights")


def test_folded_norms_are_not_written() -> None:
    net = network()
    net.layers[0].norm = torch.nn.Identity()
    net.layers[0].conv.bias = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(UserError, match=r"section 0 \[convolutional\]: its batch norm has been folded"):
        dump_weights(net)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["MobileNetV2-YOLOv3-Nano-voc", "MobileNetV2-YOLO-Fastest-voc"])
def test_published_weights_come_out_byte_for_byte(shared_data: Path, name: str) -> None:
    path = shared_data / "darknet_voc" / f"{name}.weights"
    net = network((path.with_suffix(".cfg")).read_text())
    load_weights(net, path)
    assert dump_weights(net) == path.read_bytes()
