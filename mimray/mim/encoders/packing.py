"""Visible tokens side by side: which they are, from the picture to them, from them to a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True)
class Places:
    """Where the visible tokens of each picture lie on a grid of (rows, columns).

    `row`, `column`: int64 (B, V); `grid`: (rows, columns).
    """

    row: Tensor
    column: Tensor
    grid: tuple[int, int]

    @property
    def count(self) -> int:
        """Visible tokens of a picture."""
        return self.row.shape[1]

    @property
    def index(self) -> Tensor:
        """Row-major position on the grid, int64 (B, V)."""
        return self.row * self.grid[1] + self.column

    def finer(self) -> Places:
        """The same places on a grid twice as fine: the four parts of a place lie side by side, in
        row-major order, so that merging them needs no index."""
        part = torch.arange(4, device=self.row.device)
        row = (2 * self.row[..., None] + part // 2).flatten(1)
        column = (2 * self.column[..., None] + part % 2).flatten(1)
        return Places(row, column, (2 * self.grid[0], 2 * self.grid[1]))


def visible_places(hidden: Tensor, side: int, visible: int | None) -> Places:
    """Visible cells of `side` x `side` tokens, in row-major order.

    `hidden`: bool (B, rows, columns) on the grid of tokens, every cell hidden as a whole or not;
    `visible`: tokens that are visible in every picture. Without it they are counted, which waits for
    the device; with it the mask is only checked there.

    Raises ValueError where pictures of a batch have different counts, or none.
    """
    tokens = (~hidden).flatten(1).sum(dim=1)
    visible = counted(tokens) if visible is None else visible
    cells = hidden[:, ::side, ::side]
    whole = cells.repeat_interleave(side, 1).repeat_interleave(side, 2) == hidden
    torch._assert_async(
        (tokens == visible).all() & whole.all(),
        f"every mask must leave {visible} tokens visible, in whole cells of {side} x {side}",
    )
    order = cells.flatten(1).to(torch.uint8).argsort(dim=1, stable=True)
    index = order[:, : visible // side**2]
    rows, columns = cells.shape[1:]
    return Places(index // columns, index % columns, (rows, columns))


def counted(tokens: Tensor) -> int:
    """The one number of visible tokens a picture. Raises ValueError where they differ, or are 0."""
    least, most = (int(n) for n in tokens.aminmax())
    if least != most or not most:
        raise ValueError(
            f"{least} to {most} tokens are visible in the pictures of a batch; skipping hidden tokens "
            "needs the same number in each, and at least one"
        )
    return most


def embed_visible(patch_embed: Any, images: Tensor, places: Places) -> Tensor:
    """timm's patch embedding of the visible patches alone: (B, 3, H, W) -> (B, V, width)."""
    patch = images.shape[-1] // places.grid[1]
    rows, columns = places.grid
    patches = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(len(images) * rows * columns, -1)
    seen = patches.index_select(0, flat(places.index, rows * columns))
    tokens = linear(seen, patch_embed.proj.weight.flatten(1), patch_embed.proj.bias)
    return patch_embed.norm(tokens.unflatten(0, (len(images), -1)))


def to_map(tokens: Tensor, places: Places, fill: Tensor | None = None) -> Tensor:
    """Visible tokens (B, V, C) to a map (B, C, rows, columns); hidden places hold `fill` (C), or 0."""
    batch, _, width = tokens.shape
    rows, columns = places.grid
    shape = batch * rows * columns, width
    empty = tokens.new_zeros(shape) if fill is None else fill.to(tokens.dtype).expand(shape)
    index = flat(places.index, rows * columns)
    filled = empty.index_copy(0, index, tokens.flatten(0, 1))
    return filled.view(batch, rows, columns, width).permute(0, 3, 1, 2)


def flat(index: Tensor, length: int) -> Tensor:
    """Positions within each of B rows of `length`, (B, V), as positions within all of them, (B V)."""
    start = torch.arange(len(index), device=index.device) * length
    return (index + start[:, None]).flatten()
