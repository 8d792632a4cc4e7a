"""Take one optimizer step: forward, backward, clipping, NaN check, update."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detkit.core.distributed import World
from detkit.core.structures import Batch
from detkit.infer.execution import Execution
from detkit.train import nan_guard


def take_step(
    model: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    batches: Sequence[Batch],
    world: World,
    execution: Execution,
    *,
    number: int,
    folder: Path,
    clip_norm: float | None,
) -> dict[str, float]:
    """Minimise the mean loss of `batches`; returns loss/<term>, loss/total and grad_norm (before clipping).

    model: in train mode; its forward gives the loss terms. number: of this step, from 1. Where a number is not finite
    on any process the step is not taken: every process raises TrainingDiverged, and saves its batches in `folder`.
    """
    optimizer.zero_grad(set_to_none=True)
    terms: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        more = index + 1 < len(batches)  # processes exchange gradients only once they are complete
        with model.no_sync() if more and world.size > 1 else nullcontext():  # type: ignore[operator]
            with execution.autocast():
                losses = model(execution.place(batch))
            shares = {f"loss/{name}": loss.float() / len(batches) for name, loss in losses.items()}
            scaler.scale(torch.stack(list(shares.values())).sum()).backward()
        for name, share in shares.items():
            terms[name] = terms[name] + share.detach() if name in terms else share.detach()
    terms["loss/total"] = torch.stack(list(terms.values())).sum()
    scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    terms["grad_norm"] = nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
    values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))  # the one wait for the device
    # with a scaler an infinite gradient is its business: it skips the step and scales less
    checked = {name: value for name, value in values.items() if name != "grad_norm" or not scaler.is_enabled()}
    if world.any(nan_guard.first_bad(checked) is not None):
        name = "nan_batch.pt" if world.size == 1 else f"nan_batch_{world.rank}.pt"
        raise nan_guard.diverged(number, checked, batches, folder / name)
    scaler.step(optimizer)
    scaler.update()
    return values
