"""Random erasing (Zhong et al., 2020) whose rectangles and noise are a hash of the sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimray.hashing import Purpose, key, uniform

AREA = (0.02, 1.0 / 3.0)
"""Share of the picture that a rectangle covers."""
ASPECT = (0.3, 1.0 / 0.3)
"""Its height / width."""
ATTEMPTS = 10
"""Rectangles drawn until one fits."""

_BOX, _NOISE = 0, 1  # keep the draws of a rectangle and of its noise apart


def erase(images: Tensor, probability: float, seeds: Tensor) -> Tensor:
    """Fill one rectangle of a picture with standard normal noise, with this probability.

    `images`: normalised (B, C, H, W); `seeds`: int64 (B,). Returns new images. Source: timm
    `data/random_erasing.py`, mode 'pixel', count 1. A GPU is never waited for.
    """
    if probability == 0.0:
        return images
    inside = rectangles(probability, seeds, images.shape[-2], images.shape[-1])
    if images.device.type == "cpu":
        return _fill_inside(images, inside, seeds)
    return _fill_everywhere(images, inside, seeds)


def rectangles(probability: float, seeds: Tensor, height: int, width: int) -> Tensor:
    """What is erased: bool (B, H, W), of the first attempt that fits, nothing where none does."""
    draws = torch.arange(1 + 4 * ATTEMPTS, device=seeds.device)
    drawn = uniform(key(Purpose.ERASE, seeds[:, None], _BOX, draws))
    area, aspect, top, left = drawn[:, 1:].unflatten(1, (ATTEMPTS, 4)).unbind(2)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    low, high = (math.log(a) for a in ASPECT)
    aspect = torch.exp(low + (high - low) * aspect)
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    erased = (drawn[:, :1] < probability) & fits.gather(1, first)
    tall, wide, top, left = (t.gather(1, first) for t in (tall, wide, top, left))
    rows = _span(tall, top, height)
    columns = _span(wide, left, width)
    return (rows[:, :, None] & columns[:, None, :]) & erased[:, :, None]


def noise(seeds: Tensor, pixels: Tensor) -> Tensor:
    """Standard normal numbers, float32, of the shape that `seeds` and `pixels` broadcast to.

    Box and Muller's: radius and angle from 24 bits each of one hash, so it ends at 5.8 sigma.
    """
    value = key(Purpose.ERASE, seeds, _NOISE, pixels)
    upper, lower = (value >> 40) & 0xFFFFFF, (value >> 16) & 0xFFFFFF
    radius = (-2.0 * torch.log((upper + 1).float() * 2.0**-24)).sqrt()
    return radius * torch.cos(lower.float() * (2.0 * math.pi * 2.0**-24))


def _span(length: Tensor, start: Tensor, size: int) -> Tensor:
    """`length` (B, 1) places in a row, from `start` in [0, 1) of those possible: bool (B, size)."""
    start = (start * (size - length + 1)).floor()
    places = torch.arange(size, device=length.device)
    return (places >= start) & (places < start + length)


def _fill_inside(images: Tensor, inside: Tensor, seeds: Tensor) -> Tensor:
    """Draws noise only where it goes, a twentieth of the pixels; how many there are is looked at."""
    sample, channel, pixel = _of_all_channels(inside, images).nonzero(as_tuple=True)
    filled = images.flatten(2).clone()
    drawn = noise(seeds[sample], channel * filled.shape[2] + pixel)
    filled[sample, channel, pixel] = drawn.to(images.dtype)
    return filled.view_as(images)


def _fill_everywhere(images: Tensor, inside: Tensor, seeds: Tensor) -> Tensor:
    """Draws noise for all pixels, so that nothing waits."""
    pixels = torch.arange(images[0].numel(), device=images.device)
    drawn = noise(seeds[:, None], pixels).view(images.shape).to(images.dtype)
    return torch.where(inside[:, None], drawn, images)


def _of_all_channels(inside: Tensor, images: Tensor) -> Tensor:
    """bool (B, H, W) -> (B, C, H * W)."""
    return inside.flatten(1)[:, None].expand(-1, images.shape[1], -1)
