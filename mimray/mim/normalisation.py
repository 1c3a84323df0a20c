"""Between the pixels of a screen and the numbers that a model sees."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """0 to 255, of any type, (B, 3, H, W) -> contiguous float32, by ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return (images.contiguous().float() / 255.0 - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`: float (B, 3, H, W) -> uint8, clipped to what a screen shows."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return ((images.float() * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)
