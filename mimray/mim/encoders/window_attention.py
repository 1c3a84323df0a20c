"""Attention in windows among visible tokens that lie side by side.

Linear layers, norms and MLPs never see a hidden token; only attention has to know the windows. Two
layouts compute the same: every window with the slots of hidden tokens empty, or the picture as one
window whose pairs from different windows are shut out. `lay_out` takes the one with fewer pairs.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from mimray.mim.encoders.packing import Places, flat

SHUT = -1e4
"""Added to the score of a pair that may not attend: its share is 0 in float32, and a query in a window
without a visible token still gives numbers."""


class Layout(Protocol):
    """Where the queries and keys of an attention stand, and which of them attend to each other."""

    def spread(self, x: Tensor) -> Tensor:
        """Visible tokens (B, V, heads, d) -> (windows, heads, slots, d)."""

    def collect(self, x: Tensor) -> Tensor:
        """(windows, heads, slots, d) -> visible tokens (B, V, heads * d)."""

    def bias(self, scores: Tensor, table: Tensor) -> Tensor:
        """`scores` (windows, heads, slots, slots) plus the relative position bias, from a table
        (offsets, heads), and what shuts pairs out."""


def lay_out(places: Places, block: Any) -> Layout:
    """The layout for one of timm's Swin blocks, of either version."""
    pairs = places.grid[0] * places.grid[1] * block.window_area
    return InPicture(places, block) if places.count**2 <= pairs else InWindows(places, block)


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor, layout: Layout) -> Tensor:
    """Attention among visible tokens: q (scaled), k and v (B, V, heads, d) -> (B, V, heads * d)."""
    q, k, v = layout.spread(q), layout.spread(k), layout.spread(v)
    scores = layout.bias(q @ k.transpose(-2, -1), table)
    return layout.collect(scores.softmax(dim=-1) @ v)


class InWindows:
    """All windows; the slots of hidden tokens are zero and shut out as keys."""

    def __init__(self, places: Places, block: Any) -> None:
        (high, wide), (down, right) = block.window_size, block.shift_size
        rows, columns = places.grid
        row, column = (places.row - down) % rows, (places.column - right) % columns
        window = row // high * (columns // wide) + column // wide
        slot = window * (high * wide) + row % high * wide + column % wide
        self.slots = flat(slot, rows * columns)
        self.batch, self.area = len(row), high * wide
        self.index = block.attn.relative_position_index
        shut = torch.full((self.batch * rows * columns,), SHUT, device=row.device)
        shut = shut.index_fill(0, self.slots, 0.0).view(self.batch, -1, 1, 1, self.area)
        if block.attn_mask is not None:  # of a shifted picture, windows that hold both of its ends
            shut = shut + block.attn_mask[:, None]
        self.shut = shut.flatten(0, 1)  # (windows, 1, 1 or slots, slots)

    def spread(self, x: Tensor) -> Tensor:
        empty = x.new_zeros(len(self.shut) * self.area, *x.shape[2:])
        filled = empty.index_copy(0, self.slots, x.flatten(0, 1))
        return filled.unflatten(0, (-1, self.area)).transpose(1, 2)

    def collect(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return rows.index_select(0, self.slots).unflatten(0, (self.batch, -1))

    def bias(self, scores: Tensor, table: Tensor) -> Tensor:
        return scores + bias_at(table, self.index[None]) + self.shut


class InPicture:
    """Every visible token of a picture beside every other; pairs across windows are shut out."""

    def __init__(self, places: Places, block: Any) -> None:
        windows, shifts = block.window_size, block.shift_size
        down, same_row = offsets(places.row, places.grid[0], windows[0], shifts[0])
        right, same_column = offsets(places.column, places.grid[1], windows[1], shifts[1])
        self.index = down * (2 * windows[1] - 1) + right
        self.shut = torch.where(same_row & same_column, 0.0, SHUT)[:, None]

    def spread(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)

    def collect(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    def bias(self, scores: Tensor, table: Tensor) -> Tensor:
        return scores + bias_at(table, self.index) + self.shut


def offsets(at: Tensor, side: int, window: int, shift: int) -> tuple[Tensor, Tensor]:
    """Of tokens `at` (B, V) along one side: their offsets, counted from the least that a window has,
    and whether they share a window, each (B, V, V).

    A shifted picture's two ends lie in one window but do not share it; they are far apart.
    """
    number = (at - shift) % side // window
    offset = at[:, :, None] - at[:, None, :]
    share = (number[:, :, None] == number[:, None, :]) & (offset.abs() < window)
    return offset.clamp(1 - window, window - 1) + window - 1, share


def bias_at(table: Tensor, index: Tensor) -> Tensor:
    """A position bias of each picture: table (offsets, heads), index (B, n, n) -> (B, heads, n, n)."""
    heads = table.shape[1]
    bias = table.t().gather(1, index.reshape(1, -1).expand(heads, -1))
    return bias.view(heads, *index.shape).transpose(0, 1)
