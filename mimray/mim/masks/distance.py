"""Where the nearest visible pixel is: the exact Euclidean distance transform, in plain torch.

Two passes (Felzenszwalb and Huttenlocher, 2012): the nearest visible pixel within each column, then
the best column for every pixel of a row. A mask is made of cells, and within a cell all columns have
the same vertical distances, so the second pass compares columns of cells, from the near to the far,
and ends where none can be nearer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_PIECE = 1 << 18  # numbers worked on at once on a CPU, to stay in its cache


def nearest_visible(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every pixel, its nearest visible pixel: (squared distance, row, column), int64 (B, H, W).

    `hidden`: bool (B, H, W). A visible pixel is its own nearest. What lies beyond the border counts
    as not visible. Of several equally near pixels it takes the leftmost column's, in it the upper.
    A picture without a visible pixel gives distances of at least (H + W)**2 and no valid row.
    """
    cells, high, wide = _cells(hidden)
    size = hidden.shape[1] * hidden.shape[2]
    parts = [_nearest(piece, high, wide) for piece in _pieces(cells, size)]
    squared, row, column = (torch.cat(part) for part in zip(*parts, strict=True))
    return squared, row, column


def average_distance(hidden: Tensor, patch: int) -> Tensor:
    """AvgDist (SimMIM, figure 3): mean distance of hidden pixels to the nearest visible one.

    `hidden`: bool (B, rows, columns) on a grid of `patch` pixels. Returns float64 (B,), in pixels;
    nan where nothing is hidden, inf where everything is.
    """
    cells, high, wide = _cells(hidden)
    high, wide = high * patch, wide * patch
    _, rows, columns = cells.shape
    far = rows * high + columns * wide
    largest = far**2 + (columns * wide) ** 2
    # A table of roots costs less than a root a pixel.
    roots = torch.arange(largest + 1, dtype=torch.float64, device=hidden.device).sqrt()
    sums = []
    for piece in _pieces(cells, rows * high * columns):
        up, down = _vertical(piece, high, far, _integers(largest))
        distance = torch.minimum(up, down)
        score = (distance * distance).flatten(1)
        total = torch.zeros(score.shape[1], dtype=torch.float64, device=hidden.device)
        root = total.new_empty(score.numel())
        for squared in _across(score, wide, 1):
            torch.index_select(roots, 0, squared.flatten(), out=root)
            total += root.view_as(score).sum(dim=0)
        sums.append(total.view(len(piece), rows * high).sum(dim=1))
    count = cells.flatten(1).sum(dim=1, dtype=torch.int32)  # an int64 sum of bool is slow
    mean = torch.cat(sums) / (count * (high * wide))
    return torch.where(count == rows * columns, torch.inf, mean)


def _cells(hidden: Tensor) -> tuple[Tensor, int, int]:
    """The coarsest grid that holds these masks, and height and width of its cells."""
    high, wide = _period(hidden), _period(hidden.transpose(1, 2))
    return hidden[:, ::high, ::wide], high, wide


def _period(hidden: Tensor) -> int:
    """The largest number of rows such that every mask changes only at its multiples."""
    changes = (hidden[:, 1:] ^ hidden[:, :-1]).any(dim=0).any(dim=1)
    return math.gcd(hidden.shape[1], *(changes.nonzero().flatten() + 1).tolist())


def _pieces(cells: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """The batch in pieces that stay in a CPU's cache, with `numbers` numbers a sample."""
    samples = _PIECE // numbers if cells.device.type == "cpu" else len(cells)
    return cells.split(max(1, samples))


def _integers(largest: int) -> torch.dtype:
    return torch.int32 if largest < 2**31 else torch.int64


def _nearest(cells: Tensor, high: int, wide: int) -> tuple[Tensor, Tensor, Tensor]:
    """`nearest_visible` of masks given by their cells."""
    batch, rows, columns = cells.shape
    height, width = rows * high, columns * wide
    far = height + width
    # The lowest bits of a score are its column of cells: the smallest score is then the nearest,
    # and of those equally near the leftmost.
    bits = columns.bit_length()
    dtype = _integers((far**2 + width**2 + 1) << bits)
    up, down = _vertical(cells, high, far, dtype)
    distance = torch.minimum(up, down)
    places = torch.arange(columns, dtype=dtype, device=cells.device).view(-1, 1, 1)
    score = ((distance * distance) << bits) + places
    best = score.new_empty(batch, height, columns, wide)
    for place, of_column in enumerate(_across(score.flatten(1), wide, 1 << bits)):
        best[..., place] = of_column.view_as(score).permute(1, 2, 0)
    best = best.view(batch, height, width)

    y = torch.arange(height, dtype=dtype, device=cells.device)
    x = torch.arange(width, device=cells.device)
    nearest_row = torch.where(up <= down, y - up, y + down).permute(1, 2, 0).long()
    cell = (best & ((1 << bits) - 1)).long()
    column = torch.maximum(cell * wide, torch.minimum(x, cell * wide + wide - 1))
    return (best >> bits).long(), nearest_row.gather(2, cell), column


def _vertical(cells: Tensor, high: int, far: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows up, and down, to the nearest visible pixel of the column; `far` where there is none.

    Returns two (columns of cells, B, H), 0 where visible: columns come first, so that the second
    pass works on whole stretches of memory.
    """
    hidden = cells.permute(2, 0, 1).contiguous()
    columns, batch, rows = hidden.shape
    y = torch.arange(rows * high, dtype=dtype, device=cells.device).view(rows, high)
    above = torch.where(hidden, -far, y[:, -1]).cummax(dim=2).values
    below = torch.where(hidden, rows * high + far, y[:, 0]).flip(2).cummin(dim=2).values.flip(2)
    up = (y - above[..., None]).clamp_(0, far)
    down = (below[..., None] - y).clamp_(0, far)
    shape = (columns, batch, rows * high)
    return up.view(shape), down.view(shape)


def _across(score: Tensor, wide: int, scale: int) -> Iterator[Tensor]:
    """The best score over all columns, for each of a cell's `wide` pixel columns in turn.

    `score`: (columns of cells, N), `scale` times the squared vertical distance and what else orders
    equal ones (less than `scale`). Yields one tensor of that shape, overwritten each time.
    """
    columns = len(score)
    best, spare = torch.empty_like(score), torch.empty_like(score)
    for x in range(wide):
        best.copy_(score)
        for away in range(1, columns):
            right = away * wide - x  # pixels to the nearest column of the cell on the right
            left = away * wide - (wide - 1 - x)
            if best.max() < scale * min(left, right) ** 2:
                break
            for n, distance, here, there in (
                (columns - away, right, best[:-away], score[away:]),
                (columns - away, left, best[away:], score[:-away]),
            ):
                torch.add(there, scale * distance**2, out=spare[:n])
                torch.minimum(here, spare[:n], out=here)
        yield best
