"""Every kind of Darknet section against loops over numpy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from darknet_reference import ACTIVATIONS, convolve, maxpool, reorg, shortcut

from detkit.bridge.darknet.cfg import parse_cfg
from detkit.errors import UserError
from detkit.model.darknet.activation import ACTIVATIONS as OURS
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import number_sections
from detkit.model.darknet.weightless import MaxPool

NET = "[net]\nwidth=8\nheight=6\nchannels=3\n"
CONV4 = "[convolutional]\nfilters=4\nsize=1\nactivation=linear"
END = "[region]\n"  # an identity that gives the map before it


def network(body: str, net: str = NET) -> DarknetNetwork:
    first, sections = number_sections(parse_cfg(net + body + END))
    return DarknetNetwork(net=first, sections=sections).eval()


def random_image(net: DarknetNetwork, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *net.size, generator=torch.Generator().manual_seed(seed))


def result(net: DarknetNetwork, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        (found,) = net(image)
    return found


def check(net: DarknetNetwork, expected_of_one) -> torch.Tensor:
    """The network's map is, image by image, that of a function of one image as float64 [3, H, W]."""
    image = random_image(net)
    found = result(net, image)
    assert tuple(found.shape[1:]) == net.shapes[-1], "the shape that was foreseen"
    for one, mine in zip(image.double().numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(mine, expected_of_one(one), atol=1e-5)
    return found


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("size=3\npad=1", {"padding": 1}),
        ("size=3\nstride=2\npad=1\ngroups=3", {"stride": (2, 2), "padding": 1, "groups": 3}),
        ("size=3\nstride_x=2\npadding=2", {"stride": (1, 2), "padding": 2}),
        ("size=3\npad=1\ndilation=2", {"padding": 1, "dilation": 2}),
        ("size=1\nstride=2", {"stride": (2, 2)}),
    ],
)
def test_convolution(options: str, settings: dict) -> None:
    net = network(f"[convolutional]\nfilters=6\n{options}\nactivation=linear\n")
    conv = net.layers[0].conv
    kernels, biases = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
    check(net, lambda x: convolve(x, kernels, **settings) + biases[:, None, None])


def test_batch_norm_comes_between_convolution_and_activation() -> None:
    net = network("[convolutional]\nfilters=4\nsize=1\nbatch_normalize=1\nactivation=leaky\n")
    layer = net.layers[0]
    for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean, layer.norm.running_var):
        torch.nn.init.uniform_(tensor, 0.5, 2)
    layer.norm.running_var[0] = -7e-44  # as one published file has it
    scale, shift, mean, var = (
        tensor.detach().double().numpy()[:, None, None]
        for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean, layer.norm.running_var)
    )

    def expected(x):
        normal = (convolve(x, layer.conv.weight.detach().double().numpy()) - mean) / np.sqrt(var + 1e-5)
        y = normal * scale + shift
        return np.where(y > 0, y, 0.1 * y)

    image = random_image(net)
    found = result(net, image)
    for one, mine in zip(image.double().numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(mine, expected(one), rtol=1e-4, atol=1e-3)  # the first channel grows 300-fold


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str) -> None:
    x = np.concatenate([np.linspace(-8, 8, 97), [0.0]])
    found = OURS[name](torch.tensor(x, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, [ACTIVATIONS[name](value) for value in x], atol=2e-4)


def test_activations_over_channels() -> None:
    x = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1)
    assert torch.allclose(OURS["normalize_channels"](x).flatten(), torch.tensor([0.25, 0, 0.75]), atol=1e-4)
    assert torch.allclose(OURS["normalize_channels_softmax"](x).flatten(), x.flatten().softmax(0))
    assert set(OURS) - set(ACTIVATIONS) == {name for name in OURS if name.startswith("normalize_channels")}


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        (2, 2, None),
        (2, 1, None),
        (3, 1, None),
        (5, 1, None),
        (3, 2, None),
        (2, 2, 0),
        (4, 2, None),
        (2, 2, 3),
        (3, 2, 1),
    ],
)
@pytest.mark.parametrize("side", [6, 7])
def test_maxpool(size: int, stride: int, padding: int | None, side: int) -> None:
    given = "" if padding is None else f"padding={padding}\n"
    net = network(f"[maxpool]\nsize={size}\nstride={stride}\n{given}", f"[net]\nwidth={side}\nheight={side}\n")
    check(net, lambda x: maxpool(x, size=size, stride=stride, padding=size - 1 if padding is None else padding))


@pytest.mark.parametrize("side", [6, 7])
def test_maxpool_of_stride_two_copies_no_map(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.functional, "pad")
    pool = MaxPool(size=2, stride=(2, 2), padding=1)
    assert pool(torch.zeros(1, 1, side, side)).shape == (1, 1, (side + 1) // 2, (side + 1) // 2)


def test_maxpool_of_stride_one_and_size_two_reaches_right_and_down() -> None:
    net = network("[maxpool]\nsize=2\nstride=1\n", "[net]\nwidth=2\nheight=1\n")
    found = result(net, torch.tensor([1.0, 5.0]).expand(1, 3, 1, 2))
    assert found[0, 0].tolist() == [[5, 5]]


def test_average_pool_connected_and_softmax() -> None:
    net = network("[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\ngroups=2\ntemperature=2\n")
    linear = net.layers[1].linear

    def expected(x):
        y = linear.weight.detach().double().numpy() @ x.mean(axis=(1, 2)) + linear.bias.detach().double().numpy()
        e = np.exp(y.reshape(2, 2) / 2)
        return (e / e.sum(axis=1, keepdims=True)).reshape(4, 1, 1)

    check(net, expected)


def test_connected_reads_a_map_channel_by_channel() -> None:
    net = network("[connected]\noutput=3\nactivation=relu\n")
    linear = net.layers[0].linear
    weight, bias = (tensor.detach().double().numpy() for tensor in (linear.weight, linear.bias))
    found = check(net, lambda x: np.maximum(weight @ x.reshape(-1) + bias, 0).reshape(3, 1, 1))
    image = random_image(net).contiguous(memory_format=torch.channels_last)
    assert torch.equal(result(net, image), found), "the memory layout means nothing"


def test_route_joins_and_takes_groups() -> None:
    net = network("[maxpool]\n[upsample]\nstride=2\nscale=3\n[maxpool]\nsize=2\nstride=2\n[route]\nlayers=-1,0\n")
    check(net, lambda x: np.concatenate([3 * x, x]))
    net = network(f"{CONV4}\n[maxpool]\n[route]\nlayers=-1,0\ngroups=2\ngroup_id=1\n")
    conv = net.layers[0].conv
    kernels, biases = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()

    def expected(x):
        y = convolve(x, kernels) + biases[:, None, None]
        return np.concatenate([y[2:], y[2:]])

    check(net, expected)


def test_upsample_repeats_and_backwards_adds_up() -> None:
    check(network("[upsample]\nstride=2\n"), lambda x: x.repeat(2, axis=1).repeat(2, axis=2))
    down = network("[upsample]\nstride=-2\n")
    check(down, lambda x: x.reshape(3, 3, 2, 4, 2).sum(axis=(2, 4)))


@pytest.mark.parametrize("reverse", [0, 1])
def test_reorg_has_darknets_order(reverse: int) -> None:
    net = network(f"{CONV4}\n[reorg]\nstride=2\nreverse={reverse}\n")
    conv = net.layers[0].conv
    kernels, biases = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
    check(net, lambda x: reorg(convolve(x, kernels) + biases[:, None, None], 2, bool(reverse)))
    back = reorg(reorg(np.arange(96.0).reshape(4, 4, 6), 2, False).reshape(4, 4, 6), 2, True)
    assert sorted(back.reshape(-1)) == list(range(96))


@pytest.mark.parametrize(
    ("middle", "activation"), [(CONV4, "linear"), ("[maxpool]\nstride=2", "relu"), ("[upsample]\nstride=2", "leaky")]
)
def test_shortcut_adds_what_is_shared(middle: str, activation: str) -> None:
    net = network(f"[maxpool]\n{middle}\n[shortcut]\nfrom=0\nactivation={activation}\n")
    layer = net.layers[1]

    def expected(x):
        if middle == CONV4:
            conv = layer.conv
            kernels, biases = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
            y = convolve(x, kernels) + biases[:, None, None]
        elif "maxpool" in middle:
            y = maxpool(x, size=2, stride=2, padding=1)
        else:
            y = x.repeat(2, axis=1).repeat(2, axis=2)
        return np.vectorize(ACTIVATIONS[activation])(shortcut(y, x))

    check(net, expected)


def test_shortcut_of_several_with_factors() -> None:
    net = network("[maxpool]\n[maxpool]\n[shortcut]\nfrom=-2,0\nalpha=2\nbeta=0.5\n")
    check(net, lambda x: 3 * x)


def test_dropout_works_in_training_only() -> None:
    net = network("[dropout]\nprobability=.5\n")
    check(net, lambda x: x)
    assert (net.train()(random_image(net))[0] == 0).any()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[convolutional]\n[lstm]\n", r"section 1 \[lstm\]: no such layer .*convolutional"),
        ("[convolutional]\nfilters=three\n", r"section 0 \[convolutional\]: filters=three is not a whole number"),
        ("[convolutional]\nfilters=4\ngroups=2\n", r"groups=2 divides not both its input of 3 channels"),
        ("[convolutional]\nactivation=relux\n", r"section 0 \[convolutional\]: activation=relux is unknown"),
        ("[convolutional]\nxnor=1\n", r"section 0 \[convolutional\]: xnor=1 is not supported"),
        ("[route]\nlayers=-2\n", r"section 0 \[route\]: layers=-2: there is no section -2"),
        ("[maxpool]\n[maxpool]\nstride=2\n[route]\nlayers=0,1\n", r"section 2 .*different sizes \(0: 6x8, 1: 3x4\)"),
        ("[reorg]\nstride=2\n", r"section 0 \[reorg\]: stride=2 does not divide its input of 3 channels"),
        ("[convolutional]\nsize=9\n", r"section 0 \[convolutional\]: nothing is left"),
        ("[shortcut]\n", r"section 0 \[shortcut\]: from=... is missing"),
    ],
)
def test_what_does_not_fit_is_named(body: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        network(body)
