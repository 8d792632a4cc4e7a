"""Every kind of Darknet section against loops over numpy arrays."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from darknet_reference import ACTIVATIONS, convolve, locally_connected, maxpool, reorg, reorg3d, shortcut

from detkit.checkpoint.darknet.cfg import parse_cfg
from detkit.core.errors import UserError
from detkit.model.darknet.activation import ACTIVATIONS as OURS
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.section import number_sections
from detkit.model.darknet.weightless import MaxPool
from detkit.model.layers.fold import fold_batch_norm

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


def kernels_and_biases(layer) -> tuple[np.ndarray, np.ndarray]:
    return layer.conv.weight.detach().double().numpy(), layer.conv.bias.detach().double().numpy()[:, None, None]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("size=3\npad=1", {"size": 3, "stride": 1, "padding": 1}),
        ("size=3\nstride=2\npad=1", {"size": 3, "stride": 2, "padding": 1}),
        ("size=2\nstride=2", {"size": 2, "stride": 2, "padding": 0}),
    ],
)
def test_local_has_other_kernels_at_every_place(options: str, settings: dict) -> None:
    net = network(f"[local]\nfilters=4\n{options}\nactivation=leaky\n")
    layer = net.layers[0]
    torch.nn.init.normal_(layer.bias)
    weights, biases = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()

    def expected(x):
        return np.vectorize(ACTIVATIONS["leaky"])(locally_connected(x, weights, biases, **settings))

    check(net, expected)


def test_scale_channels_has_a_factor_for_each_channel_or_each_place() -> None:
    check(network("[maxpool]\n[avgpool]\n[scale_channels]\nfrom=-2\n"), lambda x: x.mean((1, 2))[:, None, None] * x)
    net = network(
        "[maxpool]\n[convolutional]\nactivation=linear\n[scale_channels]\nfrom=0\nscale_wh=1\nactivation=relu\n"
    )
    kernels, biases = kernels_and_biases(net.layers[1])
    check(net, lambda x: np.maximum((convolve(x, kernels) + biases) * x, 0))


def test_sam_multiplies_place_by_place() -> None:
    net = network("[maxpool]\n[convolutional]\nfilters=3\nactivation=logistic\n[sam]\nfrom=-2\nactivation=leaky\n")
    kernels, biases = kernels_and_biases(net.layers[1])

    def expected(x):
        y = 1 / (1 + np.exp(-(convolve(x, kernels) + biases))) * x
        return np.where(y > 0, y, 0.1 * y)

    check(net, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_reorg3d_is_space_to_depth(stride: int) -> None:
    check(network(f"[reorg3d]\nstride={stride}\n"), lambda x: reorg3d(x, stride))


def test_crop_centres_the_pixels() -> None:
    check(network("[crop]\ncrop_width=8\ncrop_height=6\n"), lambda x: 2 * x - 1)
    check(network("[crop]\ncrop_width=8\ncrop_height=6\nnoadjust=1\n"), lambda x: x)


SHARING = "[convolutional]\nfilters=3\nsize=3\npad=1\nbatch_normalize={0}\nactivation=relu\n" + (
    "[convolutional]\nshare_index={1}\nfilters=3\nsize=3\npad=1\ndilation=2\nbatch_normalize={0}\nactivation=linear\n"
)


@pytest.mark.parametrize("index", ["0", "-1"])
def test_convolutions_share_their_weights(index: str) -> None:
    net = network(SHARING.format(0, index))
    kernels, biases = kernels_and_biases(net.layers[0])

    def expected(x):
        y = np.maximum(convolve(x, kernels, padding=1) + biases, 0)
        return convolve(y, kernels, padding=1, dilation=2) + biases

    check(net, expected)
    assert set(net.state_dict()) == {"header", "layers.0.conv.weight", "layers.0.conv.bias"}


def test_a_shared_norm_is_not_folded_and_a_copy_shares_its_own() -> None:
    net = network(SHARING.format(1, 0))
    for name, value in net.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(value, 0.5, 2)
    image = random_image(net)
    before = result(net, image)
    twin = deepcopy(net)
    fold_batch_norm(twin, lambda: twin(image))
    torch.testing.assert_close(result(twin, image), before)
    torch.nn.init.zeros_(twin.layers[0].conv.weight)
    assert torch.equal(result(net, image), before) and not torch.allclose(result(twin, image), before)


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
        ("[convolutional]\n[lstm]\n", r"section 1 \[lstm\]: \[lstm\] is not supported .*convolutional"),
        ("[convolutional]\nfilters=three\n", r"section 0 \[convolutional\]: filters=three is not a whole number"),
        ("[convolutional]\nfilters=4\ngroups=2\n", r"groups=2 divides not both its input of 3 channels"),
        ("[convolutional]\nactivation=relux\n", r"section 0 \[convolutional\]: activation=relux is unknown"),
        ("[convolutional]\nxnor=1\n", r"section 0 \[convolutional\]: xnor=1 is not supported"),
        ("[route]\nlayers=-2\n", r"section 0 \[route\]: layers=-2: there is no section -2"),
        ("[maxpool]\n[maxpool]\nstride=2\n[route]\nlayers=0,1\n", r"section 2 .*different sizes \(0: 6x8, 1: 3x4\)"),
        ("[reorg]\nstride=2\n", r"section 0 \[reorg\]: stride=2 does not divide its input of 3 channels"),
        ("[convolutional]\nsize=9\n", r"section 0 \[convolutional\]: nothing is left"),
        ("[shortcut]\n", r"section 0 \[shortcut\]: from=... is missing"),
        ("[local]\nsize=9\n", r"section 0 \[local\]: nothing is left"),
        ("[local]\nsize=2\npad=1\n", r"section 0 \[local\]: pad=1 with size=2"),
        ("[maxpool]\n[sam]\nfrom=3\n", r"section 1 \[sam\]: from=3: there is no section 3"),
        (
            f"[maxpool]\n{CONV4}\n[sam]\nfrom=-2\n",
            r"section 2 \[sam\]: .* input of 4x6x8 does not fit that map of 3x6x8",
        ),
        ("[maxpool]\n[scale_channels]\nfrom=-1\n", r"section 1 \[scale_channels\]: .* 3x6x8 does not fit"),
        ("[reorg3d]\nstride=4\n", r"section 0 \[reorg3d\]: stride=4 does not divide its input of 6x8"),
        ("[reorg3d]\nreverse=1\n", r"section 0 \[reorg3d\]: reverse=1 is not supported"),
        ("[crop]\ncrop_width=6\ncrop_height=6\n", r"section 0 \[crop\]: it keeps 6x6 of 6x8"),
        (
            f"[maxpool]\n{CONV4}\nshare_index=0\n",
            r"section 1 \[convolutional\]: share_index=0: section 0 has other weights",
        ),
    ],
)
def test_what_does_not_fit_is_named(body: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        network(body)
