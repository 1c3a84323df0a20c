"""Which part of a picture is seen: random resized crop and flip, drawn from (seed, row, epoch)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mimray.hashing import Purpose, key, uniform

_TRIES = 10


class Crop(NamedTuple):
    """A box in pixels of the stored picture, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draws(seed: int, rows: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Uniform numbers for `random_crop`: float64 (rows, 4 * tries + 1)."""
    ids = key(Purpose.CROP, seed, rows, epochs)
    numbers = np.arange(4 * _TRIES + 1)
    return uniform(key(ids[:, None], numbers[None, :]))


def random_crop(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
    draw: np.ndarray,
) -> Crop:
    """Random resized crop as the papers' loader draws it (torchvision's RandomResizedCrop).

    Area uniform in `scale`, width / height log-uniform in `ratio`; ten tries, then the largest
    centred box of an allowed shape. `draw`: one row of `draws`.
    """
    mirrored = bool(draw[-1] < flip)
    for area, shape, y, x in draw[:-1].reshape(_TRIES, 4):
        size = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(log_low + (log_high - log_low) * shape)
        w, h = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Crop(int(y * (height - h + 1)), int(x * (width - w + 1)), h, w, mirrored)
    h, w = height, width
    if width / height < ratio[0]:
        h = min(height, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = min(width, round(height * ratio[1]))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


def centre_crop(height: int, width: int) -> Crop:
    """The largest centred square, for pictures that must be the same every time."""
    side = min(height, width)
    return Crop((height - side) // 2, (width - side) // 2, side, side, False)


def resize(picture: np.ndarray, crop: Crop, size: int) -> Tensor:
    """Cut a box out of uint8 (H, W, 3) and scale it to uint8 (3, size, size).

    Antialiased bilinear on uint8, within 1 of the papers' Pillow resize, without bias.
    """
    box = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    tensor = torch.from_numpy(np.ascontiguousarray(box)).permute(2, 0, 1)[None]
    if box.shape[:2] != (size, size):
        tensor = interpolate(tensor, (size, size), mode="bilinear", antialias=True)
    return tensor[0].flip(2) if crop.flip else tensor[0]
