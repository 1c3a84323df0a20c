"""Inverse block masking (data2vec 2.0, Baevski et al., 2022): what stays visible is blocks.

Squares of 3 of 14 cells a side, their centres anywhere, are kept until as many cells as wanted are
visible; the last square is trimmed at random. data2vec 2.0 places a fixed number of squares and
trims, or fills up, at random over the whole picture.
"""

from __future__ import annotations

from math import ceil, isqrt

import torch
from torch import Tensor

from mimray.mim.masks.blocks import below, numbers, outside
from mimray.mim.masks.ranking import lowest, random_order


def inverse_block_cells(rows: int, columns: int, hidden: int, seed: Tensor) -> Tensor:
    """Hide all but `rows * columns - hidden` cells of each sample."""
    visible = rows * columns - hidden
    side = _side(rows, columns)
    over = side // 2  # cells by which a square may reach over the border, which cuts it off
    blocks = ceil(3 * visible / side**2)  # they overlap; three times the area leaves little to fill
    top, left, _ = numbers(seed, blocks)
    top = below(top, rows - side + 1 + 2 * over) - over
    left = below(left, columns - side + 1 + 2 * over) - over
    free = torch.ones(len(seed), rows, columns, dtype=torch.bool, device=seed.device)
    passed = torch.zeros_like(free, dtype=torch.int16)  # blocks before the one that covers a cell
    for block in range(blocks):
        free &= outside(top[block], left[block], side, side, rows, columns)
        passed += free
    order = random_order(rows * columns, seed, passed.flatten(1).long())
    return ~lowest(order, visible).view_as(free)


def _side(rows: int, columns: int) -> int:
    """3 of 14 cells, and at least 2: a block of one cell would be random masking."""
    scaled = (3 * isqrt(rows * columns) + 7) // 14  # rounded
    return min(max(2, scaled), rows, columns)
