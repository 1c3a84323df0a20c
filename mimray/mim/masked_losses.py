"""What is hidden of a picture in validation, and what fills that need no learning lose there.

A run's validation, the losses of single pictures and reconstructions show the same masks and the same
losses, so both are made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from mimray.hashing import Purpose, key
from mimray.mim.fills import nearest_pixel, visible_mean
from mimray.mim.masks import draw
from mimray.mim.model import MaskedImageModel
from mimray.recipe import Mask

FILLS = {"visible_mean": visible_mean, "nearest": nearest_pixel}
"""Predictions that need no learning, by name."""

_LEAST = 1e-12  # of a fill's loss: pictures of one colour have none


def fixed_masks(mask: Mask, image_size: int, patch: int, seed: int, rows: Tensor) -> Tensor:
    """What is hidden of each of `rows`, int64 (B,), whenever it is looked at: bool (B, h, w) on the grid of
    the encoder's patches. `seed`: `data.val_seed`."""
    seeds = key(Purpose.VALIDATION_MASK, seed, rows)
    return draw(mask.strategy, image_size, mask.unit, patch, mask.ratio, seeds)


def fills(
    model: MaskedImageModel, images: Tensor, hidden: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Of each of `FILLS` its name, its prediction in the target's space, (B, outputs, h', w'), and its
    error (B,), summed over the values that the model's own loss asks for.

    `images`: float32 normalised (B, 3, H, W). None for a target that is classified, which has no fills.
    """
    if not model.target.fills:
        return
    target, region = model.target(images), model.asked(hidden)
    for name, fill in FILLS.items():
        filled = fill(target, region)
        yield name, filled, (model.target.error(filled, target) * region).sum(dim=(1, 2))


def skill(loss: float, nearest: float) -> float:
    """1 - loss / the nearest-pixel fill's: below 0 is worse than no learning. NaN where the fill is exact,
    as on pictures of one colour: nothing was to be learned."""
    return 1.0 - loss / nearest if nearest > _LEAST else math.nan
