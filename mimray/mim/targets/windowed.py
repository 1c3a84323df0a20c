"""Pixels normalised by the statistics of a sliding window, as SwinV2's released recipe has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mimray.mim.targets.regression import Regression
from mimray.recipe import TargetSettings


class WindowedPixels(Regression):
    """(x - mean) / sqrt(variance + 1e-6) over a window around each pixel, each channel alone.

    Source: Swin-Transformer `models/simmim.py`, `norm_targets`: stride 1, what
    lies beyond the border is left out of the averages, the variance is the unbiased one.
    """

    def __init__(self, settings: TargetSettings) -> None:
        super().__init__(settings)
        if settings.window % 2 != 1:
            raise ValueError(f"target.window={settings.window}: must be odd, to have a centre")
        self.window = settings.window

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        def average(x: Tensor) -> Tensor:
            return avg_pool2d(x, self.window, 1, self.window // 2, count_include_pad=False)

        ones = torch.ones_like(images)
        inside = avg_pool2d(ones, self.window, 1, self.window // 2, count_include_pad=True)
        count = inside * self.window**2
        mean = average(images)
        variance = (average(images**2) - mean**2) * (count / (count - 1))
        return mean, (variance.clamp(min=0.0) + 1e-6).sqrt()

    def forward(self, images: Tensor) -> Tensor:
        mean, deviation = self._statistics(images)
        return (images - mean) / deviation

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        mean, deviation = self._statistics(images)
        return prediction * deviation + mean
