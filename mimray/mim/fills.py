"""Fills that need no learning: what a loss is worth is seen beside them, on the same pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.mim.masks.distance import nearest_visible


def visible_mean(target: Tensor, hidden_pixels: Tensor) -> Tensor:
    """Predict, everywhere, the mean of the picture's visible pixels, each channel alone.

    `target`: (B, C, H, W); `hidden_pixels`: bool (B, H, W). Returns the shape of `target`.
    """
    visible = (~hidden_pixels)[:, None].to(target.dtype)
    mean = (target * visible).sum(dim=(2, 3), keepdim=True) / visible.sum(dim=(2, 3), keepdim=True)
    return mean.expand_as(target)


def nearest_pixel(target: Tensor, hidden_pixels: Tensor) -> Tensor:
    """Predict, for each pixel, the value of the nearest visible pixel. Shapes as `visible_mean`."""
    batch, channels, _, width = target.shape
    _, row, column = nearest_visible(hidden_pixels)
    flat = (row * width + column).view(batch, 1, -1).expand(-1, channels, -1)
    return torch.gather(target.flatten(2), 2, flat).view_as(target)
