"""Position tables and embeddings for another window or grid than they were learned on.

SwinV2 needs none of this: its bias is a function of coordinates, which are scaled by the windows of
pre-training (`build_encoder(pretrained_windows=...)`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int, int]
Array = NDArray[np.float64]


def source_positions(source: int, target: int) -> Array:
    """Where the 2 * source - 1 entries of a window's side lie among the 2 * target - 1 of another's.

    Distances between neighbours grow by a ratio q from the centre, which is 0, so that the outermost
    entries meet; near tokens keep their offsets. q is looked for between 1.01 and 1.5, so a smaller
    target is cut out rather than squeezed. Source: SimMIM `utils.py`, geometric interpolation.
    """
    steps, low, high, ratio = np.arange(source - 1), 1.01, 1.5, 1.01
    while high - low > 1e-6:
        ratio = (low + high) / 2
        low, high = (low, ratio) if (ratio**steps).sum() > target - 1 else (ratio, high)
    outwards = np.cumsum(ratio**steps)
    return np.concatenate([-outwards[::-1], [0.0], outwards])


def resize_table(table: Tensor, source: Size, target: Size) -> Tensor:
    """A relative position table of a window of `source` (rows, columns) tokens, for one of `target`.

    `table`: ((2 * rows - 1) * (2 * columns - 1), heads), with or without a ViT's three rows for the
    class token at its end, which are kept. Each axis by `source_positions` and a cubic spline; beyond
    the outermost position the value there holds.
    """
    entries = (2 * source[0] - 1) * (2 * source[1] - 1)
    values = table[:entries].double().unflatten(0, (2 * source[0] - 1, 2 * source[1] - 1))
    rows, columns = (torch.from_numpy(_axis(s, t)) for s, t in zip(source, target, strict=True))
    resized = torch.einsum("yr,xc,rch->yxh", rows, columns, values).flatten(0, 1)
    return torch.cat([resized.to(table.dtype), table[entries:]])


def resize_embedding(embedding: Tensor, source: Size, target: Size) -> Tensor:
    """An absolute position embedding of a grid of `source` (rows, columns) tokens, for `target`.

    `embedding`: (1, extra + rows * columns, width); the extra tokens' come first and are kept. Bicubic,
    as DeiT, BEiT and MAE do it.
    """
    extra = embedding.shape[1] - source[0] * source[1]
    grid = embedding[:, extra:].float().transpose(1, 2).unflatten(2, source)
    resized = interpolate(grid, target, mode="bicubic", align_corners=False)
    resized = resized.flatten(2).transpose(1, 2).to(embedding.dtype)
    return torch.cat([embedding[:, :extra], resized], dim=1)


def _axis(source: int, target: int) -> Array:
    """The matrix (2 * target - 1, 2 * source - 1) that resizes one axis of a table."""
    if source == target:
        return np.eye(2 * source - 1)
    return _spline(source_positions(source, target), np.arange(1.0 - target, target))


def _spline(knots: Array, at: Array) -> Array:
    """The matrix (targets, sources) that takes values at `knots` to the spline's `at` other places.

    The interpolating cubic without a knot at the second and the last but one place (what
    FITPACK, and so scipy, means by it); of lower degree where there are too few places.
    """
    if len(knots) == 1:
        return np.ones((len(at), 1))
    degree = min(3, len(knots) - 1)
    inner = knots[2:-2] if degree == 3 else knots[:0]
    padded = np.concatenate([[knots[0]] * (degree + 1), inner, [knots[-1]] * (degree + 1)])
    inside = np.clip(at, knots[0], knots[-1])
    return _b_splines(inside, padded, degree) @ np.linalg.inv(_b_splines(knots, padded, degree))


def _b_splines(at: Array, knots: Array, degree: int) -> Array:
    """Every B-spline of the degree at every place: (places, splines), by de Boor's recursion."""
    last = len(knots) - degree - 2
    span = np.clip(np.searchsorted(knots, at, side="right") - 1, degree, last)
    splines = np.eye(len(knots) - 1)[span]
    for d in range(1, degree + 1):
        width = knots[d:] - knots[:-d]
        share = (at[:, None] - knots[None, :-d]) / np.where(width > 0, width, np.inf)
        splines = share[:, :-1] * splines[:, :-1] + (1 - share[:, 1:]) * splines[:, 1:]
    return splines
