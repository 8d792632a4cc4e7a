"""List the keys of a `.cfg` that have no effect in detkit."""

from __future__ import annotations

from collections import defaultdict

from detkit.model.darknet.network import DarknetNetwork

ELSEWHERE = {"classes", "width", "height", "letter_box", "nms_kind", "beta_nms"}  # read from the file by others


def unused_keys(network: DarknetNetwork) -> dict[str, list[str]]:
    """List, by section name with [net] first, the keys that nothing has read, in alphabetical order."""
    found: dict[str, set[str]] = defaultdict(set)
    for section in (network.net, *network.sections):
        found[section.name] |= section.options.keys() - section.asked - ELSEWHERE
    return {name: sorted(keys) for name, keys in found.items() if keys}
