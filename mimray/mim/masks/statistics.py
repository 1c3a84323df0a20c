"""What a run says of its masks at its start: how much they hide, and how far from what is visible."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mimray.mim.masks import average_distance, draw, realised_ratio


class MaskStatistics(NamedTuple):
    """The realised mask ratio, and the mean AvgDist in pixels (10 to 20 is where SimMIM does best)."""

    hidden_ratio: float
    average_distance: float


def statistics(
    strategy: str,
    image_size: int | tuple[int, int],
    unit: int,
    patch: int,
    ratio: float,
    masks: int = 1024,
) -> MaskStatistics:
    """Over the masks of seeds 0, 1, ..., the same for every run; arguments as `draw`.

    At 192 px in units of 32 the mean of 1,024 masks has a standard error below 1 %. Raises
    ValueError as `draw`.
    """
    hidden = draw(strategy, image_size, unit, patch, ratio, torch.arange(masks))
    return MaskStatistics(
        realised_ratio(strategy, image_size, unit, ratio),
        average_distance(hidden, patch).mean().item(),
    )
