"""Random masking (SimMIM, section 3.2): each cell alike, a fixed number of them hidden."""

from __future__ import annotations

import math

from torch import Tensor

from mimray.mim.masks.ranking import lowest, random_order


def share_count(rows: int, columns: int, ratio: float) -> int:
    """ceil(cells x ratio) in floating point, as the official generator rounds (data_simmim.py)."""
    return math.ceil(rows * columns * ratio)


def random_cells(rows: int, columns: int, hidden: int, seed: Tensor) -> Tensor:
    """Hide the `hidden` cells that come first in a random order: a draw without replacement."""
    return lowest(random_order(rows * columns, seed), hidden).view(-1, rows, columns)
