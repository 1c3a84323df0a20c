"""Random masking (SimMIM, section 3.2): each cell alike, a fixed number of them hidden."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimray.hashing import Purpose, key


def hidden_count(cells: int, ratio: float) -> int:
    """ceil(cells x ratio) in floating point, as the official generator rounds (data_simmim.py)."""
    return math.ceil(cells * ratio)


def random_cells(rows: int, columns: int, ratio: float, seed: Tensor) -> Tensor:
    """Hide the `hidden_count` cells whose hash is smallest: a uniform draw without replacement."""
    cells = torch.arange(rows * columns, device=seed.device)
    order = key(Purpose.MASK, seed[:, None], cells[None, :]).argsort(dim=1, stable=True)
    hidden = torch.zeros(len(seed), rows * columns, dtype=torch.bool, device=seed.device)
    hidden.scatter_(1, order[:, : hidden_count(rows * columns, ratio)], True)
    return hidden.view(-1, rows, columns)
