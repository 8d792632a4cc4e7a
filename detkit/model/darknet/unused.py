"""The keys of a `.cfg` that a detector of detkit does not learn by."""

from __future__ import annotations

from collections import defaultdict

from detkit.model.darknet.network import DarknetNetwork

ELSEWHERE = {"classes", "width", "height", "letter_box", "nms_kind", "beta_nms"}  # read from the file by others


def unused_keys(network: DarknetNetwork) -> dict[str, list[str]]:
    """By the name of the section, [net] first, the keys that nothing has read, in alphabetical order."""
    found: dict[str, set[str]] = defaultdict(set)
    for section in (network.net, *network.sections):
        found[section.name] |= section.options.keys() - section.asked - ELSEWHERE
    return {name: sorted(keys) for name, keys in found.items() if keys}
