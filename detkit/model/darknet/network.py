"""A Darknet network as a backbone: images to the maps that its head sections read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detkit.core.structures import FeatureSpec, Size
from detkit.model.darknet.build_layer import HEADS, Shape, build_layer
from detkit.model.darknet.classes import labels_of_outputs
from detkit.model.darknet.section import Section


class DarknetNetwork(nn.Module):
    """Run every section as a layer, in order; returns the input of each head section, in the order of the file.

    net: [net], whose width, height and channels are the input's. sections: those after it. size: (height, width) of the
    input if it is another. header: int64 [4], major, minor, revision and images seen, as in the weights file. Raises
    UserError naming a section that is unknown or does not fit.
    """

    mean = (0.0, 0.0, 0.0)
    std = (255.0, 255.0, 255.0)
    header: Tensor

    def __init__(self, *, net: Section, sections: list[Section], size: Size | None = None) -> None:
        super().__init__()
        self.size = size or (net.integer("height"), net.integer("width"))
        if net.integer("channels", 3) != 3:
            raise net.error(f"channels={net.integer('channels')}: only networks on colour images are read")
        self.net = net
        self.sections = sections
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []
        self.shapes: list[Shape] = [(3, *self.size)]  # of the image, then of every section
        for section in sections:
            module, sources, shape = build_layer(section, self.shapes, self.layers)
            self.layers.append(module)
            self.sources.append(sources)
            self.shapes.append(shape)
        self.heads = [section.index for section in sections if section.name in HEADS]
        if not self.heads:
            raise net.error(f"no section of this network detects anything ({', '.join(HEADS)})")
        self.features = [
            FeatureSpec(self.shapes[index + 1][0], self.size[1] // self.shapes[index + 1][2]) for index in self.heads
        ]
        self.register_buffer("header", torch.tensor([0, 2, 0, 0]))
        last_use = {source: index for index, sources in enumerate(self.sources) for source in sources}
        self._finished = [[s for s in set(sources) if last_use[s] == i] for i, sources in enumerate(self.sources)]

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`: the section before each head section has rows by class, its norm as well."""
        return {f"layers.{index - 1}": labels_of_outputs(self.sections[index], num_classes) for index in self.heads}

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = {-1: images}
        maps = []
        for index, layer in enumerate(self.layers):
            outputs[index] = layer(*(outputs[source] for source in self.sources[index]))
            if index in self.heads:
                maps.append(outputs[index])
            for source in self._finished[index]:
                del outputs[source]
        return maps
