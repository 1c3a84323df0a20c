"""Where the nearest visible pixel is: the exact Euclidean distance transform, in plain torch.

Two passes (Felzenszwalb and Huttenlocher, 2012, in the quadratic form that suits a GPU): the nearest
visible pixel within each column by running maxima, then the best column for every pixel of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FAR = 1 << 14  # beyond any picture; its square still fits int32


def nearest_visible(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every pixel, its nearest visible pixel: (squared distance, row, column), int64 (B, H, W).

    `hidden`: bool (B, H, W). A visible pixel is its own nearest. What lies beyond the border counts
    as not visible. Of several equally near pixels it takes the leftmost column's, in it the upper.
    A picture without a visible pixel gives distances of at least 2**28.
    """
    _, height, width = hidden.shape
    rows = torch.arange(height, device=hidden.device).view(1, -1, 1)
    above = torch.where(hidden, -_FAR, rows).cummax(dim=1).values
    below = torch.where(hidden, _FAR, rows).flip(1).cummin(dim=1).values.flip(1)
    row_in_column = torch.where(rows - above <= below - rows, above, below)
    vertical = (row_in_column - rows) ** 2  # (B, H, W): to the nearest visible of that column

    columns = torch.arange(width, device=hidden.device)
    horizontal = (columns[:, None] - columns[None, :]) ** 2  # (W, W): pixel's to candidate's column
    squared = torch.empty_like(vertical)
    column = torch.empty_like(vertical)
    for y in range(height):  # a row at a time bounds the memory to B x W x W
        squared[:, y], column[:, y] = (vertical[:, y, None, :] + horizontal).min(dim=-1)
    return squared, row_in_column.gather(2, column), column


def average_distance(hidden: Tensor, patch: int) -> Tensor:
    """AvgDist (SimMIM, figure 3): mean distance of hidden pixels to the nearest visible one.

    `hidden`: bool (B, rows, columns) on a grid of `patch` pixels. Returns float64 (B,), in pixels;
    nan where nothing is hidden, inf where everything is.
    """
    pixels = hidden.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)
    distance = nearest_visible(pixels)[0].to(torch.float64).sqrt()
    mean = (distance * pixels).sum(dim=(1, 2)) / pixels.sum(dim=(1, 2))
    return torch.where(pixels.all(dim=2).all(dim=1), torch.inf, mean)
