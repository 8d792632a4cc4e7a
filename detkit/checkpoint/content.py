"""Define what a checkpoint holds, whatever kind of file it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor
from torch.optim.optimizer import StateDict

from detkit.core.plain import Settings
from detkit.model.graph_detector import Runner

Weights: TypeAlias = Mapping[str, Tensor]

# The data config of a checkpoint that says nothing of its data.
NO_DATA: Settings = MappingProxyType(dict.fromkeys(("train_split", "val_split", "test_split", "classes")))


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training was.

    epoch, batch: epochs done, and batches of the next one that every process has had. step: optimizer steps.
    elapsed_s: seconds that they took. unevaluated: whether an evaluation was due at this step and did not end.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    unevaluated: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """What a training goes on with, beside weights and position.

    optimizer, scaler: their state dicts. rng: of each process, the states of its random generators. metrics: of the
    latest evaluation. best: the fields of `detkit.train.best_score.Best`.
    """

    optimizer: StateDict
    scaler: StateDict
    rng: list[dict[str, Any]]
    metrics: dict[str, Any]
    best: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A detector with what it was made of; `dataclasses.replace` makes changed copies.

    model: its state dict, empty where `graph` takes its place. ema: the averaged weights, where a training keeps them.
    config: resolved, of a training; `model` alone where there was none. classes: the name of label 0, 1, ...
    preprocess: the config node of a `Preprocess`. category_ids: as of `Annotations`. training: None where no training
    can go on from here. trust: modules of the user's own whose parts may be built, the word of who reads the file.
    tested_as, unused: sentences for the log, whose settings of a test these are and what of a file has no effect.
    graph: of an exported file, which runs without the code of the model and cannot learn.
    """

    model: Weights = field(repr=False)
    config: Settings
    classes: list[str]
    preprocess: Settings
    ema: Weights | None = field(default=None, repr=False)
    category_ids: list[int | str | None] | None = None
    position: Position = Position()
    training: TrainingState | None = field(default=None, repr=False)
    trust: Sequence[str] = ()
    tested_as: str | None = None
    unused: str = ""
    graph: Runner | None = None

    @property
    def weights(self) -> Weights:
        """What predicts: the averaged weights where they were kept."""
        return self.ema or self.model

    @property
    def step(self) -> int:
        """The number of optimizer steps behind it."""
        return self.position.step

    @property
    def name(self) -> str | None:
        """What its run was called, where it was."""
        return self.config.get("name")

    @property
    def model_config(self) -> Settings:
        """The node that the detector is built of; empty for an exported file."""
        return self.config.get("model") or {}

    @property
    def data_config(self) -> Settings:
        """The node of the data that it learnt from; nulls where that is not known."""
        return self.config.get("data") or NO_DATA

    @property
    def proposal_config(self) -> Settings | None:
        """The node of what proposed its regions from outside, None where its model proposes them."""
        return self.config.get("proposal")

    @property
    def processes(self) -> int:
        """How many processes saved it, as each had its random state; 0 where no training can go on from it."""
        return 0 if self.training is None else len(self.training.rng)

    def tested_with(self, *, preprocess: Settings, postprocess: Settings, tested_as: str | None) -> Checkpoint:
        """A copy with other nodes of preprocess and postprocess, and what is said of them."""
        config = {**self.config, "model": {**self.model_config, "postprocess": postprocess}}
        return replace(self, preprocess=preprocess, config=config, tested_as=tested_as)


OF_A_TRAINING = tuple(entry.name for entry in fields(TrainingState))
