"""torch.compile of an encoder's blocks, and what else makes its steps fast or small.

Blocks of one shape share their code, so of a SwinV2-B's 24 blocks six pieces are compiled, where the
model as a whole would be one of 24 blocks (regional compilation). Inductor keeps what it compiled in
TORCHINDUCTOR_CACHE_DIR, for the runs after this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mimray.mim.recomputing import recompute_stages

if TYPE_CHECKING:
    from mimray.mim.encoders import Encoder
    from mimray.mim.learner import Learner
    from mimray.recipe import Speed

_PIECES = 64
"""Kinds of blocks that one function may be compiled for; torch gives up after 8."""


def accelerate(model: Learner, speed: Speed, device: torch.device) -> None:
    """Apply `speed.compile` and `speed.checkpoint_stages` to a model on its device, in place.

    Parameters keep their names. Call it before `replicate`, for DDP and FSDP put their hooks around
    the blocks. Raises ValueError for a stage that the encoder does not have.
    """
    if device.type == "cuda" if speed.compile == "auto" else speed.compile:
        compile_blocks(model.encoder)
    recompute_stages(model.encoder, speed.checkpoint_stages)


def compile_blocks(encoder: Encoder, backend: str = "inductor") -> None:
    """Compile the training pass of every block, in place; `backend`: torch.compile's.

    Shapes are taken as they are: micro-batches of a run are all of one size. In evaluation, whose
    batches are not, blocks run as they did before.
    """
    torch._dynamo.config.recompile_limit = _PIECES
    for blocks in encoder.stage_blocks():
        for block in blocks:
            block.forward = _compiled(block, backend)


def _compiled(block: nn.Module, backend: str) -> Callable[..., Any]:
    """What a block's `forward` is replaced by."""
    plain = block.forward
    compiled = torch.compile(plain, dynamic=False, backend=backend)

    def forward(*inputs: Any, **named: Any) -> Any:
        return compiled(*inputs, **named) if block.training else plain(*inputs, **named)

    return forward
