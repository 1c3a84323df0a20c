"""Activation checkpointing: a block's activations are computed again in the backward pass, not kept.

Of each block only what goes in is kept, so the memory of a stage falls to that and one block's
activations, for a second forward pass of the stage (Chen et al., Training deep nets with sublinear
memory cost, 2016). Nothing in a block draws from torch's random stream, so none of it is put back;
results are bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mimray.mim.drop_path import HashedDropPath

if TYPE_CHECKING:
    from mimray.mim.encoders import Encoder


def recompute_stages(encoder: Encoder, stages: Iterable[int]) -> None:
    """Let the blocks of some stages (1 is the first) be computed again, in place.

    Raises ValueError, as `check_stages` does.
    """
    check_stages(encoder, stages)
    blocks = encoder.stage_blocks()
    for stage in set(stages):
        for block in blocks[stage - 1]:
            block.forward = _recomputed(block)


def check_stages(encoder: Encoder, stages: Iterable[int]) -> None:
    """Raises ValueError for a stage that the encoder does not have."""
    count = len(encoder.stage_blocks())
    for stage in stages:
        if not 1 <= stage <= count:
            has = f"stages 1 to {count}" if count > 1 else "one stage, 1"
            raise ValueError(
                f"speed.checkpoint_stages={sorted(set(stages))}: the encoder has {has}, and no {stage}"
            )


def _recomputed(block: nn.Module) -> Callable[..., Any]:
    """What a block's `forward` is replaced by: hooks, such as FSDP's, stay outside of it."""
    return partial(
        checkpoint,
        block.forward,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(_contexts, block),
    )


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the forward pass and around its repetition, as `checkpoint` asks for them."""
    drop_paths = [m.seeds for m in block.modules() if isinstance(m, HashedDropPath)]
    return nullcontext(), _as_before(block, [(seeds, seeds.current) for seeds in drop_paths])


@contextmanager
def _as_before(block: nn.Module, seeds: list[tuple[Any, Any]]) -> Iterator[None]:
    """Drop path draws for the pictures that the forward pass saw, and batch norms do not count them
    twice."""
    norms = (nn.BatchNorm2d, nn.SyncBatchNorm)
    statistics = [b for m in block.modules() if isinstance(m, norms) for b in m.buffers()]
    kept = [buffer.clone() for buffer in statistics]
    now = [holder.current for holder, _ in seeds]
    try:
        for holder, then in seeds:
            holder.current = then
        yield
    finally:
        for (holder, _), current in zip(seeds, now, strict=True):
            holder.current = current
        with torch.no_grad():
            for buffer, value in zip(statistics, kept, strict=True):
                buffer.copy_(value)
