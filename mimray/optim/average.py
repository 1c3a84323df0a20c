"""The exponential moving average of weights: what is judged, and what a checkpoint gives to others.

It lies in the optimiser's state of what it is an average of, so roll-backs and shards hold it with the
moments. Running statistics of batch norms are averaged as the weights are, for they belong to them
(timm `utils/model_ema.py`, ModelEmaV3); all other buffers are the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

AVERAGE = "average"
"""Its name in the optimiser's state of a parameter or buffer."""


def keep_average(
    optimizer: torch.optim.Optimizer, decay: float, statistics: Sequence[Tensor] = ()
) -> None:
    """average <- decay * average + (1 - decay) * weights, after each update from the second on; after the
    first it is the weights. An update that is left out (see `Guard`) counts as one that changed nothing.
    Never waits for the device.

    `statistics`: running statistics of the model, floating point, averaged alike. Of an update that is left
    out they may be anything, and are passed.
    """
    for buffer in statistics:
        optimizer.state[buffer] = {AVERAGE: buffer.detach().clone()}

    @torch.no_grad()
    def update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        known: list[Tensor] = []
        weights: list[Tensor] = []
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            state = optimizer.state.get(parameter)
            if not state:  # it never had a gradient
                continue
            if AVERAGE in state:
                known.append(state[AVERAGE])
                weights.append(parameter.detach())
            else:
                state[AVERAGE] = parameter.detach().clone()
        share = 1.0 - decay if known else 1.0
        if known:
            torch._foreach_lerp_(known, weights, share)
        left_out = getattr(optimizer, "found_inf", None)
        for buffer in statistics:
            average = optimizer.state[buffer][AVERAGE]
            following = average.lerp(buffer, share)
            if left_out is not None:
                following = torch.where(left_out > 0, average, following)
            average.copy_(following)

    optimizer.register_step_post_hook(update)


def averages(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The averages, by the names that the model has for what they are averages of; none before the first
    update."""
    found: dict[str, Tensor] = {}
    for name, tensor in _named(model):
        state = optimizer.state.get(tensor, {})  # asked for, none is made
        if AVERAGE in state:
            found[name] = state[AVERAGE]
    return found


@contextmanager
def averaged(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """In here the model has its average's weights and running statistics; its own come back."""
    found = averages(model, optimizer)
    pairs = [(tensor, found[name]) for name, tensor in _named(model) if name in found]
    _swap(pairs)
    try:
        yield
    finally:
        _swap(pairs)


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers."""
    return [*model.named_parameters(), *model.named_buffers()]


@torch.no_grad()
def _swap(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for tensor, average in pairs:
        kept = tensor.detach().clone()
        tensor.copy_(average)
        average.copy_(kept)
