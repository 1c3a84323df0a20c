"""The picture at `target.resolution`, and a prediction back at the picture's."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from mimray.recipe import TargetSettings


def pixels_a_position(settings: TargetSettings, image_size: int) -> int:
    """Side of what one position of the target stands for, in pixels of the picture."""
    return image_size // (settings.resolution or image_size)


def shrink(images: Tensor, pixel: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H/pixel, W/pixel): the mean of the pixels under each position."""
    return images if pixel == 1 else avg_pool2d(images, pixel)


def enlarge(images: Tensor, pixel: int) -> Tensor:
    """(B, C, h, w) -> (B, C, h * pixel, w * pixel): each position repeated."""
    return images if pixel == 1 else interpolate(images, scale_factor=pixel)
