"""SimMIM's second head: a linear layer more, between a hidden layer as wide as the features."""

from __future__ import annotations

from torch import nn

from mimray.mim.heads.shape import HeadShape
from mimray.recipe import Head


def mlp_head(shape: HeadShape, settings: Head) -> nn.Module:
    """Two 1 x 1 convolutions and pixel shuffle: (B, C, h, w) -> (B, outputs, h * upscale, w * upscale).

    Source: SimMIM, table 4. Its 90.9 M parameters for Swin-B say that the hidden layer has as many
    channels as the features. The activation is not published; GELU is that of Swin's own MLPs.
    """
    del settings
    outputs = shape.outputs * shape.upscale**2
    return nn.Sequential(
        nn.Conv2d(shape.channels, shape.channels, 1),
        nn.GELU(),
        nn.Conv2d(shape.channels, outputs, 1),
        nn.PixelShuffle(shape.upscale),
    )
