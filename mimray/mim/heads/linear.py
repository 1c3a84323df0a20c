"""SimMIM's default head: one linear layer (section 3.3; the heavier heads do not transfer better)."""

from __future__ import annotations

from torch import nn


class LinearHead(nn.Sequential):
    """1 x 1 convolution and pixel shuffle: (B, C, h, w) -> (B, outputs, h * stride, w * stride).

    Source: SimMIM `models/simmim.py`; output channel = colour * stride^2 + row * stride + column.
    """

    def __init__(self, channels: int, stride: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(channels, outputs * stride**2, 1), nn.PixelShuffle(stride))
