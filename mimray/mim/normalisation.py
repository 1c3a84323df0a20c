"""Between the pixels of a screen and the numbers that a model sees."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@lru_cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation, made once a device: a copy from the host waits for the GPU's queue."""
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return mean, std


def normalise(images: Tensor) -> Tensor:
    """0 to 255, of any type, (B, 3, H, W) -> contiguous float32, by ImageNet's mean and deviation."""
    mean, std = _statistics(images.device)
    return (images.contiguous().float() / 255.0 - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`: float (B, 3, H, W) -> uint8, clipped to what a screen shows."""
    mean, std = _statistics(images.device)
    return ((images.float() * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)
