"""What a head is built for."""

from __future__ import annotations

from typing import NamedTuple


class HeadShape(NamedTuple):
    """`channels` of the features and their `grid`, (rows, columns); `outputs`: channels of the
    prediction; `upscale`: positions of the prediction a side for one of the features."""

    channels: int
    grid: tuple[int, int]
    outputs: int
    upscale: int
