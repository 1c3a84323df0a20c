"""Regression: the distance of numbers, by the three losses of SimMIM's ablation (table 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss, smooth_l1_loss

from mimray.mim.targets.protocol import Target
from mimray.recipe import TargetSettings

LOSSES: dict[str, Callable[..., Tensor]] = {
    "l1": l1_loss,
    "l2": mse_loss,
    "smooth_l1": smooth_l1_loss,
}


class Regression(Target):
    """A target of numbers, compared value by value."""

    def __init__(self, settings: TargetSettings) -> None:
        super().__init__()
        self.loss = LOSSES[settings.loss]
        self.options = {"beta": settings.beta} if settings.loss == "smooth_l1" else {}

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = self.loss(prediction, target, reduction="none", **self.options)
        return torch.sum(errors, dim=1)
