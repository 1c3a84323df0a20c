"""Pixels normalised by the statistics of a sliding window, as SwinV2's released recipe has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mimray.mim.targets.regression import Regression
from mimray.recipe import TargetSettings


class WindowedPixels(Regression):
    """(x - mean) / sqrt(variance + 1e-6) over a window around each pixel, each channel alone.

    Source: Swin-Transformer `models/simmim.py`, `norm_targets`: stride 1, what lies beyond the border
    is left out of the averages, the variance is the unbiased one.

    The statistics come from running sums, so that a pixel costs the same whatever the window. They
    are kept in float64: the variance of a flat sky is a difference of large numbers that are nearly
    the same, and 1e-6 beside it must count.
    """

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        super().__init__(settings)
        del image_size
        if settings.window % 2 != 1:
            raise ValueError(
                f"target.window={settings.window} has no centre; take {settings.window - 1} or "
                f"{settings.window + 1}"
            )
        self.window = settings.window

    def forward(self, images: Tensor) -> Tensor:
        mean, deviation = self._statistics(images)
        return ((images - mean) / deviation).to(images.dtype)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        mean, deviation = self._statistics(images)
        return (prediction * deviation + mean).to(images.dtype)

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation around every pixel: float64, of the shape of `images`."""
        values = images.double()
        count = self._sums(torch.ones_like(values[:1, :1]))
        mean = self._sums(values) / count
        variance = (self._sums(values**2) / count - mean**2) * (count / (count - 1))
        return mean, (variance.clamp(min=0.0) + 1e-6).sqrt()

    def _sums(self, values: Tensor) -> Tensor:
        """Sums over the part of each pixel's window that lies inside of the picture."""
        return self._row_sums(self._row_sums(values).mT).mT

    def _row_sums(self, values: Tensor) -> Tensor:
        """The same along rows alone: a running sum, less what it was a window earlier."""
        reach = self.window // 2
        running = pad(values, (reach + 1, reach)).cumsum(dim=-1)
        return running[..., self.window :] - running[..., : -self.window]
