"""Darknet's layers as its C code computes them: loops over numpy arrays [C, H, W], one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]


def convolve(
    x: Map, kernels: Map, *, stride: tuple[int, int] = (1, 1), padding: int = 0, dilation: int = 1, groups: int = 1
) -> Map:
    """kernels [out, in / groups, k, k]; stride (vertical, horizontal); padding in steps of the kernel."""
    filters, per_group, size, _ = kernels.shape
    pad = padding * dilation
    padded = np.zeros((x.shape[0], x.shape[1] + 2 * pad, x.shape[2] + 2 * pad))
    padded[:, pad : pad + x.shape[1], pad : pad + x.shape[2]] = x
    reach = dilation * (size - 1) + 1
    rows = (padded.shape[1] - reach) // stride[0] + 1
    columns = (padded.shape[2] - reach) // stride[1] + 1
    out = np.zeros((filters, rows, columns))
    for f in range(filters):
        first = f // (filters // groups) * per_group
        for i in range(rows):
            for j in range(columns):
                for c in range(per_group):
                    for y in range(size):
                        for z in range(size):
                            value = padded[first + c, i * stride[0] + y * dilation, j * stride[1] + z * dilation]
                            out[f, i, j] += kernels[f, c, y, z] * value
    return out


def maxpool(x: Map, *, size: int, stride: int, padding: int) -> Map:
    """A window begins at -(padding / 2), rounded towards zero; what lies outside the map does not count."""
    channels, height, width = x.shape
    rows, columns = (height + padding - size) // stride + 1, (width + padding - size) // stride + 1
    out = np.full((channels, rows, columns), -np.inf)
    for c in range(channels):
        for i in range(rows):
            for j in range(columns):
                for y in range(size):
                    for z in range(size):
                        row, column = i * stride + y - padding // 2, j * stride + z - padding // 2
                        if 0 <= row < height and 0 <= column < width:
                            out[c, i, j] = max(out[c, i, j], x[c, row, column])
    return out


def reorg(x: Map, stride: int, reverse: bool) -> Map:
    """By flat indices: out[in_index] = x[out_index], or the other way round."""
    channels, height, width = x.shape
    fewer = channels // stride**2
    flat, out = x.reshape(-1), np.zeros(x.size)
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                here = i + width * (j + height * k)
                channel, offset = k % fewer, k // fewer
                column, row = i * stride + offset % stride, j * stride + offset // stride
                there = column + width * stride * (row + height * stride * channel)
                if reverse:
                    out[there] = flat[here]
                else:
                    out[here] = flat[there]
    if reverse:
        return out.reshape(fewer, height * stride, width * stride)
    return out.reshape(channels * stride**2, height // stride, width // stride)


def locally_connected(x: Map, weights: Map, biases: Map, *, size: int, stride: int, padding: int) -> Map:
    """weights [places * out * in * size * size] as the file has them, biases [out, rows, columns]."""
    filters, rows, columns = biases.shape
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    out, flat, step = biases.copy(), weights.reshape(-1), len(x) * size * size
    for i in range(rows):
        for j in range(columns):
            for f in range(filters):
                first = ((i * columns + j) * filters + f) * step
                for c in range(len(x)):
                    for y in range(size):
                        for z in range(size):
                            weight = flat[first + (c * size + y) * size + z]
                            out[f, i, j] += weight * padded[c, i * stride + y, j * stride + z]
    return out


def reorg3d(x: Map, stride: int) -> Map:
    """By flat indices, of the loops over what comes out."""
    channels, height, width = x.shape
    rows, columns = height // stride, width // stride
    out = np.zeros((channels * stride**2, rows, columns))
    for k in range(len(out)):
        channel, offset = k % channels, k // channels
        for j in range(rows):
            for i in range(columns):
                out[k, j, i] = x[channel, j * stride + offset // stride, i * stride + offset % stride]
    return out


def shortcut(x: Map, other: Map) -> Map:
    """x plus the shared channels of other, every stride-th place of it, at every sample-th place of x."""
    out = x.copy()
    stride, sample = max(1, other.shape[2] // x.shape[2]), max(1, x.shape[2] // other.shape[2])
    for k in range(min(x.shape[0], other.shape[0])):
        for j in range(min(x.shape[1], other.shape[1])):
            for i in range(min(x.shape[2], other.shape[2])):
                out[k, j * sample, i * sample] += other[k, j * stride, i * stride]
    return out


def sigmoid(x: Map | float) -> Map:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


ACTIVATIONS = {
    "linear": lambda x: x,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "loggy": lambda x: 2 / (1 + np.exp(-x)) - 1,
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "elu": lambda x: x if x >= 0 else np.exp(x) - 1,
    "selu": lambda x: 1.0507 * x if x >= 0 else 1.0507 * 1.6732 * (np.exp(x) - 1),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "plse": lambda x: 0.01 * (x + 4) if x < -4 else 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5,
    "hardtan": lambda x: -1 if x < -1 else 1 if x > 1 else x,
    "lhtan": lambda x: 0.001 * x if x < 0 else 0.001 * (x - 1) + 1 if x > 1 else x,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "stair": lambda x: np.floor(x / 2) if np.floor(x) % 2 == 0 else (x - np.floor(x)) + np.floor(x / 2),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
}
