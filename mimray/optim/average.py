"""The exponential moving average of weights, which is evaluated beside them.

It lies in the optimiser's state, so checkpoints, shards and roll-backs hold it with the moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

AVERAGE = "average"
"""Its name in the optimiser's state of a parameter."""


def keep_average(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights, after each update from the second on; after the
    first it is the weights. An update that is left out (see `Guard`) counts as one that changed nothing.
    Never waits for the device."""

    @torch.no_grad()
    def update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        known: list[Tensor] = []
        weights: list[Tensor] = []
        for parameter, state in optimizer.state.items():
            if AVERAGE in state:
                known.append(state[AVERAGE])
                weights.append(parameter.detach())
            else:
                state[AVERAGE] = parameter.detach().clone()
        if known:
            torch._foreach_lerp_(known, weights, 1.0 - decay)

    optimizer.register_step_post_hook(update)


@contextmanager
def averaged(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """In here the model has its average's weights, and buffers as they are; its own come back."""
    states = (
        (p, optimizer.state.get(p, {})) for p in model.parameters()
    )  # asked for, none is made
    pairs = [(p, state[AVERAGE]) for p, state in states if AVERAGE in state]
    _swap(pairs)
    try:
        yield
    finally:
        _swap(pairs)


@torch.no_grad()
def _swap(pairs: list[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, average in pairs:
        kept = parameter.detach().clone()
        parameter.copy_(average)
        average.copy_(kept)
