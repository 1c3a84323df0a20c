"""The optimiser of every run, and the one place where a learning rate reaches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mimray.optim.groups import (
    LearningRateScale,
    decays,
    official_decays,
    parameter_groups,
    unscaled,
)
from mimray.recipe import Optim


def build_optimizer(
    model: nn.Module,
    settings: Optim,
    lr_scale: LearningRateScale = unscaled,
    finetune: bool = False,
) -> torch.optim.AdamW:
    """AdamW, fused where the device has the kernel; the learning rate is set before every step.

    `model` has its encoder as `encoder`, of which `settings.like_official` reads the `family`;
    `lr_scale`: `layer_scales(...)` for layer-wise decay; `finetune`: whether `like_official` means the
    official fine-tuning. Raises ValueError where the official code has no such encoder.
    """
    plain: Any = model
    rule = official_decays(plain.encoder.family, finetune) if settings.like_official else decays
    return torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay, rule, lr_scale),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, lr: float | Callable[[float], float]
) -> None:
    """Give every parameter group its learning rate: `lr` times the group's `lr_scale`.

    So all of the schedule is scaled, the warm-up's start and the minimum too. The official code
    scales the peak alone (timm 0.4.12's schedulers), which a function of the scale expresses:
    see `rate_at`.
    """
    for group in optimizer.param_groups:
        scale = group.get("lr_scale", 1.0)
        group["lr"] = lr(scale) if callable(lr) else lr * scale
