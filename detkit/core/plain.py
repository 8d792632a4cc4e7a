"""Name types of data whose keys are not detkit's to fix: settings of configs, JSON of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

# A node of a config as plain values: what a part is given, a section, a whole training. Which keys there are, and of
# what kind, is said by configs/values.yaml and checked by `detkit.config.values`, not by types.
Settings: TypeAlias = Mapping[str, Any]
# What metrics.json holds: nested, as json.dump takes it, numbers as fractions, None for what could not be measured. Its
# "protocol" says how it was measured; the keys beside it are the task's (`Task.metric_names`).
Metrics: TypeAlias = dict[str, Any]
# What json.load may give for a file of others, before it is parsed.
Json: TypeAlias = Any
