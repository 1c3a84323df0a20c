"""Central square masking (SimMIM, masking ablation): the same n x n cells of every picture."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor


def square_count(rows: int, columns: int, ratio: float) -> int:
    """The n x n nearest to cells x ratio, of those that fit and leave a cell visible."""
    largest = min(rows, columns) - (rows == columns)
    wanted = rows * columns * ratio
    return min((n * n for n in range(1, largest + 1)), key=lambda s: abs(s - wanted), default=0)


def square_cells(rows: int, columns: int, hidden: int, seed: Tensor) -> Tensor:
    """Hide the square; where it cannot be central it lies half a cell nearer to the top and left."""
    side = isqrt(hidden)
    top, left = (rows - side) // 2, (columns - side) // 2
    cells = torch.zeros(len(seed), rows, columns, dtype=torch.bool, device=seed.device)
    cells[:, top : top + side, left : left + side] = True
    return cells
