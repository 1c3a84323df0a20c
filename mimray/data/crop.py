"""Which part of a picture is seen: random resized crop and flip, drawn from (seed, row, epoch)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from mimray.data.framing import Interpolation
from mimray.hashing import Purpose, key, uniform

_TRIES = 10
_LONGEST = 16  # sides; what is longer is out of the centre's view, and would only take memory
_KERNELS: dict[str, Callable[..., Any]] = {
    # what interpolate() calls, which itself takes no `out`: 5 % of decoding, cropping and scaling
    "bilinear": torch._C._nn._upsample_bilinear2d_aa,
    "bicubic": torch._C._nn._upsample_bicubic2d_aa,
}


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


def cut(
    picture: np.ndarray,
    crop: Crop,
    size: int,
    out: np.ndarray | None = None,
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """Cut a box out of uint8 (H, W, 3), scale it by `rescale`, mirror it: uint8 (size, size, 3).

    Into `out`, a picture of a batch, where that is given.
    """
    box = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    if not crop.flip:
        return rescale(box, (size, size), out, interpolation)
    mirrored = rescale(box, (size, size), None, interpolation)
    mirrored = torch.from_numpy(mirrored).flip(1).numpy()
    if out is None:
        return mirrored
    out[...] = mirrored
    return out


def cut_centre(
    picture: np.ndarray, side: int, size: int, interpolation: Interpolation
) -> np.ndarray:
    """Scale the shorter side of uint8 (H, W, 3) to `side`, cut out the centre: uint8 (size, size, 3).

    As torchvision's Resize(side) and CenterCrop(size), with their rounding; size <= side.
    """
    shorter = min(picture.shape[:2])
    top, left = (max(0, length - _LONGEST * shorter) // 2 for length in picture.shape[:2])
    picture = picture[top : top + _LONGEST * shorter, left : left + _LONGEST * shorter]
    height, width = (int(side * length / shorter) for length in picture.shape[:2])
    scaled = rescale(picture, (height, width), None, interpolation)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return scaled[top : top + size, left : left + size]


def rescale(
    picture: np.ndarray,
    size: tuple[int, int],
    out: np.ndarray | None = None,
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """Scale uint8 (H, W, 3) to `size` (height, width), into `out` where that is given.

    Antialiased, the pixels of Pillow 13: at most 1 off (bicubic 2), without bias, at one value in a
    thousand (one in twenty-five at sizes such as 240 to 192 where many sums lie halfway), since torch's
    weights have about 15 bits and Pillow's 22. Both round after each of the two passes, so their
    order shows: with the other one a fifth of all values would be 1 off. Pillow scales the height
    first where it shrinks by more than twice as many pixels as the width (python-pillow/Pillow#9549);
    before version 13, never.
    """
    kernel = _KERNELS[interpolation]
    height, width = size
    if picture.shape[0] - height > max(0, 2 * (picture.shape[1] - width)):
        picture = _scale(kernel, picture, (height, picture.shape[1]), None)
    return _scale(kernel, picture, size, out)


def _scale(
    kernel: Callable[..., Any], picture: np.ndarray, size: tuple[int, int], out: np.ndarray | None
) -> np.ndarray:
    """One call of torch's uint8 kernel, rows first, from channels-last memory to the same."""
    if out is None:
        out = np.empty((*size, 3), dtype=np.uint8)
    kernel(
        torch.from_numpy(picture.transpose(2, 0, 1)[None]),
        size,
        False,
        None,
        out=torch.from_numpy(out.transpose(2, 0, 1)[None]),
    )
    return out
