"""Block-wise masking (BEiT, algorithm 1): rectangles are hidden one after the other.

A block is at least 16 of 196 cells in area and at most what is still to be hidden, and its sides
are to each other as 0.3 to 1 / 0.3 at the most.

Unlike BEiT's generator, whose masks fall short of the count by a few cells, it hides exactly the
count: where less is left than the smallest block, one of that size is trimmed, at random. A block
may lie on hidden cells and none is tried again, so the number of blocks can be fixed; it suffices
but at ratios near 0.9, where the last few per cent of the cells are then hidden at random.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import torch
from torch import Tensor

from mimray.mim.masks.blocks import below, numbers, outside
from mimray.mim.masks.ranking import lowest, random_order

_BLOCKS = 32


def block_cells(rows: int, columns: int, hidden: int, seed: Tensor) -> Tensor:
    """Hide `hidden` cells of each sample, block after block."""
    visible = rows * columns - hidden
    shapes, fitting = _shapes(rows, columns, hidden, seed.device)
    free = torch.ones(len(seed), rows, columns, dtype=torch.bool, device=seed.device)
    passed = torch.zeros_like(free, dtype=torch.uint8)  # blocks before the one that covers a cell
    for shape, top, left in zip(*numbers(seed, _BLOCKS), strict=True):
        remaining = free.flatten(1).sum(dim=1, dtype=torch.int32).sub_(visible).clamp_(min=0)
        height, width = shapes[below(shape, fitting[remaining.long()])].unbind(dim=1)
        top, left = below(top, rows - height + 1), below(left, columns - width + 1)
        free &= outside(top, left, height, width, rows, columns)
        passed += free
    order = random_order(rows * columns, seed, passed.flatten(1).long())
    return lowest(order, hidden).view_as(free)


@lru_cache(maxsize=64)
def _shapes(rows: int, columns: int, hidden: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The blocks by area, (n, 2) height and width, and how many fit what remains, (hidden + 1,).

    A uniform choice among the whole-numbered rectangles is BEiT's, area uniform and logarithm of
    the aspect ratio uniform: d(height) d(width) = d(area) d(log aspect) / 2.
    """
    shapes = sorted(
        (
            (height, width)
            for height in range(1, max(rows, 2))
            for width in range(1, max(columns, 2))
            if height * width <= hidden and 3 * width <= 10 * height and 3 * height <= 10 * width
        ),
        key=lambda shape: shape[0] * shape[1],
    )
    largest = shapes[-1][0] * shapes[-1][1]
    smallest = min(max(1, round(rows * columns * 16 / 196)), largest)
    shapes = [(height, width) for height, width in shapes if height * width >= smallest]
    areas = [height * width for height, width in shapes]
    fitting = [bisect_right(areas, max(remaining, smallest)) for remaining in range(hidden + 1)]
    return torch.tensor(shapes, device=device), torch.tensor(fitting, device=device)
