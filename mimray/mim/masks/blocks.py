"""Rectangles of cells placed by hash: what the two strategies made of blocks share."""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.hashing import Purpose, key

_BITS = 21  # three numbers from one hash


def numbers(seed: Tensor, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three random numbers a block, each int64 (blocks, B) in [0, 2**21); for `below`."""
    # -1 is no cell's number, so the blocks and the order of the cells share no randomness.
    block = torch.arange(blocks, device=seed.device)[:, None]
    value = key(Purpose.MASK, seed, -1, block)
    first, second, third = (value >> shift & ((1 << _BITS) - 1) for shift in (0, _BITS, 2 * _BITS))
    return first, second, third


def below(number: Tensor, limit: Tensor | int) -> Tensor:
    """Random integers in [0, limit), in integer arithmetic so that devices agree.

    Some values are likelier than others by limit / 2**21, which is nothing here.
    """
    return number * limit >> _BITS


def outside(
    top: Tensor,
    left: Tensor,
    height: Tensor | int,
    width: Tensor | int,
    rows: int,
    columns: int,
) -> Tensor:
    """Cells that a block leaves alone, one block a sample, given by int64 (B,): (B, rows, columns)."""
    y = torch.arange(rows, device=top.device)
    x = torch.arange(columns, device=top.device)
    beside = (x < left[:, None]) | (x >= (left + width)[:, None])
    above_or_below = (y < top[:, None]) | (y >= (top + height)[:, None])
    return above_or_below[:, :, None] | beside[:, None, :]
