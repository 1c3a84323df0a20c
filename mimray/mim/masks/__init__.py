"""Masks: which cells of a picture are hidden. True = hidden, everywhere.

A strategy is a count and a choice of cells in one file; adding one adds the file and a line in
`STRATEGIES`. A mask is a function of its sample's seed alone, by integer hashes: the same bits on
every device and in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mimray.mim.masks.block import block_cells
from mimray.mim.masks.distance import average_distance
from mimray.mim.masks.inverse_block import inverse_block_cells
from mimray.mim.masks.random import random_cells, share_count
from mimray.mim.masks.square import square_cells, square_count
from mimray.settings_errors import nearest

__all__ = [
    "STRATEGIES",
    "average_distance",
    "draw",
    "hidden_cells",
    "realised_ratio",
    "to_pixels",
]

_PIECE = 1 << 17  # cells drawn at once on a CPU: their int64 hashes stay in its cache


@dataclass(frozen=True)
class Strategy:
    """How many cells are hidden, the same in every sample, and which."""

    count: Callable[[int, int, float], int]
    """(rows, columns, ratio) -> hidden cells."""
    cells: Callable[[int, int, int, Tensor], Tensor]
    """(rows, columns, hidden cells, seed (B,) int64) -> bool (B, rows, columns)."""


STRATEGIES: dict[str, Strategy] = {
    "random": Strategy(share_count, random_cells),
    "block": Strategy(share_count, block_cells),
    "inverse_block": Strategy(share_count, inverse_block_cells),
    "square": Strategy(square_count, square_cells),
}


def draw(
    strategy: str,
    image_size: int | tuple[int, int],
    unit: int,
    patch: int,
    ratio: float,
    seed: Tensor,
) -> Tensor:
    """Draw one mask a sample, on the device of `seed` and without waiting for it.

    `unit` is the mask patch size in pixels and independent of the encoder's `patch`, of which it is
    a multiple (SimMIM, section 3.2: regression of raw pixels does not tie the two).
    `seed`: int64 (B,). Returns `hidden`: bool (B, H/patch, W/patch).

    Raises ValueError when sizes do not divide, the strategy is unknown or nothing would stay
    visible.
    """
    rows, columns = _grid(image_size, unit, patch)
    hidden = hidden_cells(strategy, rows, columns, ratio)
    samples = _PIECE // (rows * columns) if seed.device.type == "cpu" else len(seed)
    pieces = seed.split(max(1, samples))
    cells = [STRATEGIES[strategy].cells(rows, columns, hidden, piece) for piece in pieces]
    return _repeat(torch.cat(cells), unit // patch)


def hidden_cells(strategy: str, rows: int, columns: int, ratio: float) -> int:
    """How many cells of a grid a strategy hides, in every sample alike.

    Raises ValueError for an unknown strategy, and for a ratio that is none or hides everything.
    """
    if strategy not in STRATEGIES:
        known = nearest(strategy, list(STRATEGIES))
        raise ValueError(f"mask strategy {strategy!r} is not known{known}")
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"mask ratio {ratio:g} must lie between 0 and 1")
    cells = rows * columns
    if cells == 1:
        raise ValueError("one mask unit covers the whole image; take a smaller unit")
    hidden = STRATEGIES[strategy].count(rows, columns, ratio)
    if hidden >= cells:
        largest = math.floor(1e4 * (cells - 1) / cells) / 1e4
        raise ValueError(
            f"mask ratio {ratio:g} hides all {cells} cells ({rows} x {columns}); take at most "
            f"{largest:g}, or a smaller unit"
        )
    return hidden


def realised_ratio(
    strategy: str, image_size: int | tuple[int, int], unit: int, ratio: float
) -> float:
    """The share of the picture that is hidden, once `ratio` is rounded to whole cells.

    Raises ValueError as `draw`.
    """
    rows, columns = _grid(image_size, unit, 1)
    return hidden_cells(strategy, rows, columns, ratio) / (rows * columns)


def to_pixels(hidden: Tensor, patch: int) -> Tensor:
    """Patch grid to pixels: bool (B, rows, columns) -> bool (B, rows * patch, columns * patch)."""
    return _repeat(hidden, patch)


def _repeat(grid: Tensor, times: int) -> Tensor:
    if times == 1:
        return grid
    # Columns first: the larger copy then moves whole rows (0.7 ms for 3).
    return grid.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)


def _grid(image_size: int | tuple[int, int], unit: int, patch: int) -> tuple[int, int]:
    """Rows and columns of mask units; raises ValueError when sizes do not divide."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if unit < 1 or height % unit or width % unit or unit % patch:
        common = math.gcd(height, width)
        fitting = [u for u in range(patch, common + 1, patch) if common % u == 0]
        near = sorted(fitting, key=lambda u: abs(u - unit))[:2]
        mend = f"take {' or '.join(map(str, near))}" if near else "no unit is both"
        raise ValueError(
            f"mask unit {unit} must divide the image ({height} x {width}) and be a multiple of the "
            f"encoder's patch ({patch}); {mend}"
        )
    return height // unit, width // unit
