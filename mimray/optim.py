"""Parameter groups and learning rates, as pure functions of names and steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from mimray.durations import Clock
from mimray.recipe import Optim, Schedule

# Never decayed, wherever they stand in a name. SimMIM's own pre-training means to spare them but
# misses some by a naming fault (microsoft/SimMIM optimizer.py prefixes "encoder."); here they are spared.
_NO_DECAY = (
    "mask_token",
    "cls_token",
    "pos_embed",
    "relative_position_bias_table",
    "cpb_mlp",
    "logit_scale",
)


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to biases and norms (1-D), tokens and position tables."""
    if parameter.ndim <= 1 or name.endswith(".bias"):
        return False
    return not any(part in name for part in _NO_DECAY)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups, decayed and not, in the order of `named_parameters`."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, settings: Optim) -> torch.optim.AdamW:
    """AdamW, fused where the device has the kernel; the learning rate is set before every step."""
    return torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def learning_rate(step: int, peak: float, schedule: Schedule, clock: Clock) -> float:
    """Learning rate of optimiser step `step`, counted from 0; `clock.total` is the run's length.

    Linear warm-up, then a cosine that starts where the warm-up ends (the official SimMIM starts its
    clock at step 0 and drops at the end of the warm-up; Swin-Transformer#278 mended it), or steps.
    """
    assert clock.total is not None
    warmup = min(clock.steps(schedule.warmup), clock.total)
    if step < warmup:
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * step / warmup
    if schedule.kind == "multistep":
        passed = sum(clock.steps(milestone) <= step for milestone in schedule.milestones)
        return peak * schedule.gamma**passed
    progress = (step - warmup) / max(1, clock.total - warmup)
    return schedule.min_lr + (peak - schedule.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def parameter_count(parameters: Iterable[torch.Tensor]) -> int:
    """How many numbers a model holds."""
    return sum(p.numel() for p in parameters)
