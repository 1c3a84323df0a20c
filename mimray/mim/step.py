"""One optimiser step over a global batch, in plain PyTorch: with or without Ray, on any number of ranks.

The gradient is the sum over the global batch divided by its count of values (hidden ones, or pictures
that are classified), however the batch was cut into micro-batches and dealt to ranks; it is clipped once
(`clip_partial` apart, which is how the official code does it). Nothing in a step waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mimray.hashing import key
from mimray.mim.guard import Guard
from mimray.mim.masks import draw
from mimray.mim.normalisation import normalise
from mimray.mim.parallel import (
    clip_gradient,
    gradient_sync,
    is_parallel,
    running_statistics,
    unwrapped,
)
from mimray.recipe import Recipe


@dataclass
class MicroBatch:
    """What one forward pass sees: normalised `images` (B, 3, H, W); `supervision`, what the loss goes by:
    where a picture is hidden, bool (B, h, w), or its classes, (B, classes); `seeds` (B,) for drop path;
    and `weight` (B,), 0 for padding and for pictures that cannot be read."""

    images: Tensor
    supervision: Tensor
    seeds: Tensor
    weight: Tensor


@dataclass
class StepResult:
    """Sums over the global batch: `error` over `values` is the loss, both 0 where the error of an
    update that was left out is not finite; `norm` before clipping."""

    error: Tensor
    values: Tensor
    norm: Tensor


def micro_batch(
    recipe: Recipe, patch: int, images: Tensor, rows: Tensor, weight: Tensor, epoch: int
) -> MicroBatch:
    """Normalise uint8 `images` on their device and draw their masks from (seed, row, epoch)."""
    seeds = key(recipe.run.seed, rows, epoch)
    mask = recipe.mask
    hidden = draw(mask.strategy, recipe.model.image_size, mask.unit, patch, mask.ratio, seeds)
    return MicroBatch(normalise(images), hidden, seeds, weight)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[MicroBatch],
    clip: float,
    bf16: bool,
    clip_partial: bool = False,
    guard: Guard | None = None,
) -> StepResult:
    """Forward, backward and update over this rank's micro-batches of one global batch.

    `model` is a MaskedImageModel or a Classifier, made parallel by `replicate` where there are several
    ranks.
    `clip_partial`: clip what has piled up after every micro-batch, as microsoft/SimMIM
    `main_simmim.py` does; then the update depends on how the batch is cut, and `norm` is the last one.
    `guard`: leaves updates out, so that the model, the moments and their step counts stay as they were;
    `optimizer` must be fused for it.
    """
    device = batch[0].images.device
    ranks = dist.get_world_size() if is_parallel(model) else 1
    plain: Any = unwrapped(model)
    values = sum_over_ranks(_values(batch, plain), ranks)
    error = torch.zeros((), dtype=torch.float64, device=device)
    statistics = running_statistics(plain) if guard else {}
    before = {name: buffer.clone() for name, buffer in statistics.items()}
    optimizer.zero_grad(set_to_none=True)
    for number, micro in enumerate(batch):
        due = clip_partial or number == len(batch) - 1
        with gradient_sync(model, due), autocast(device, bf16):
            out = model(micro.images, micro.supervision, micro.seeds)
            weighted = (out.error * micro.weight).sum()
            # Parallel models average over ranks; the sum over ranks is meant here.
            (weighted * (ranks / values.clamp(min=1.0)).float()).backward()
        error += weighted.detach()
        if due:
            norm = clip_gradient(model, clip)
    sum_over_ranks(error, ranks)
    if guard is None:
        optimizer.step()
        return StepResult(error, values, norm)
    skip = guard.judge(norm)
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    optimizer.step()
    for name, buffer in statistics.items():  # a NaN would never leave a running mean again
        buffer.copy_(torch.where(skip > 0, before[name], buffer))
    counts = (skip == 0) | error.isfinite()
    return StepResult(torch.where(counts, error, 0.0), torch.where(counts, values, 0.0), norm)


def _values(batch: Sequence[MicroBatch], model: Any) -> Tensor:
    """Values that the loss of this rank's share runs over, padding left out: float64 scalar."""
    counts = [(model.values(m.supervision) * m.weight.double()).sum() for m in batch]
    return torch.stack(counts).sum()


def sum_over_ranks(value: Tensor, ranks: int) -> Tensor:
    """All-reduce, in place, where there is anybody to reduce with."""
    if ranks > 1:
        dist.all_reduce(value)
    return value


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """bfloat16 in matrix products, or nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
