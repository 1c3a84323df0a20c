"""SimMIM's default head: one linear layer (section 3.3; the heavier heads do not transfer better)."""

from __future__ import annotations

from torch import nn

from mimray.mim.heads.shape import HeadShape
from mimray.recipe import Head


def linear_head(shape: HeadShape, settings: Head) -> nn.Module:
    """1 x 1 convolution and pixel shuffle: (B, C, h, w) -> (B, outputs, h * upscale, w * upscale).

    Source: SimMIM `models/simmim.py`; the convolution's output channel is
    output * upscale^2 + row * upscale + column.
    """
    del settings
    outputs = shape.outputs * shape.upscale**2
    return nn.Sequential(nn.Conv2d(shape.channels, outputs, 1), nn.PixelShuffle(shape.upscale))
