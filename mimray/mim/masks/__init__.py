"""Masks: which cells of a picture are hidden. True = hidden, everywhere.

A strategy is a function of (rows, columns, ratio, seed) in one file; adding one adds the file and a
line in `STRATEGIES`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mimray.mim.masks.distance import average_distance
from mimray.mim.masks.random import hidden_count, random_cells

__all__ = ["STRATEGIES", "average_distance", "draw", "hidden_cells", "to_pixels"]


class Strategy(Protocol):
    """Chooses the hidden cells of each sample: `seed` (B,) int64 -> bool (B, rows, columns)."""

    def __call__(self, rows: int, columns: int, ratio: float, seed: Tensor) -> Tensor: ...


STRATEGIES: dict[str, Strategy] = {"random": random_cells}


def draw(
    strategy: str,
    image_size: int | tuple[int, int],
    unit: int,
    patch: int,
    ratio: float,
    seed: Tensor,
) -> Tensor:
    """Draw one mask a sample, on the device of `seed`.

    `unit` is the mask patch size in pixels and independent of the encoder's `patch`, of which it is
    a multiple (SimMIM, section 3.2: regression of raw pixels does not tie the two).
    `seed`: int64 (B,). Returns `hidden`: bool (B, H/patch, W/patch).

    Raises ValueError when sizes do not divide or the strategy is unknown.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % unit or width % unit or unit % patch:
        raise ValueError(
            f"mask unit {unit} must divide the image ({height} x {width}) and be a multiple of the "
            f"encoder's patch ({patch})"
        )
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown mask strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    cells = STRATEGIES[strategy](height // unit, width // unit, ratio, seed)
    return _repeat(cells, unit // patch)


def to_pixels(hidden: Tensor, patch: int) -> Tensor:
    """Patch grid to pixels: bool (B, rows, columns) -> bool (B, rows * patch, columns * patch)."""
    return _repeat(hidden, patch)


def _repeat(grid: Tensor, times: int) -> Tensor:
    return grid.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def hidden_cells(strategy: str, rows: int, columns: int, ratio: float) -> int:
    """How many cells a strategy hides, the same in every picture."""
    del strategy
    return hidden_count(rows * columns, ratio)
