"""Cached features, row by row: what the nearest neighbours and the linear probes both read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Features = Tensor | np.ndarray
"""(n, C), float16 or float32; an array may be mapped from a file, and is read where it is needed."""


def float_rows(
    features: Features, which: slice | np.ndarray, device: torch.device | str = "cpu"
) -> Tensor:
    """Some rows, float32 (rows, C); they travel to the device in the precision that they have."""
    if isinstance(features, Tensor):
        block = features[which if isinstance(which, slice) else torch.from_numpy(which)]
    else:
        read = features[which]  # a slice may be a view of a file that nobody may write to
        block = torch.from_numpy(read.copy() if isinstance(which, slice) else np.asarray(read))
    return block.to(device).float()


def check_labels(labels: Tensor, rows: int, classes: int) -> None:
    """Labels are int64 (n,) from 0, or (n, classes) of 1, 0 or -1 where a row has several.

    Raises ValueError where they do not fit the features' `rows` or the `classes`.
    """
    fits = (rows,) if labels.ndim == 1 else (rows, classes)
    if rows == 0 or labels.shape != fits:
        raise ValueError(
            f"{rows} features and {classes} classes do not fit labels of shape "
            f"{tuple(labels.shape)}; there is to be one for each row, and a row at least"
        )
    low, high = (0, classes - 1) if labels.ndim == 1 else (-1, 1)
    least, most = int(labels.min()), int(labels.max())
    if least < low or most > high:
        raise ValueError(f"labels run from {least} to {most}, beyond {low} to {high}")
