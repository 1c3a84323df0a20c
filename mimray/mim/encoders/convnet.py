"""What convolutional encoders share: where the mask token enters, and how tensors lie in memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mimray.mim.encoders.protocol import Encoder
from mimray.mim.masks import to_pixels

PATCH = 4
"""Pixels of one position after the stem, of every family here."""


class ConvEncoder(Encoder):
    """An `Encoder` of convolutions; it takes any picture of whole last strides, square or not.

    The mask token stands in for hidden positions after the stem. SimMIM trained a ResNet-50x4
    without saying where the token enters; this is the place that matches its Swin's.

    A stem that overlaps mixes the pixels of neighbouring tokens, so hidden pixels are blanked before
    it: they become 0, ImageNet's mean, as do the pixels that a convolution pads with. Nothing that is
    hidden reaches a feature then, nor a batch norm's statistics.

    Tensors are channels last throughout: the tokens (B, H/4, W/4, C) and the feature maps (B, C, h, w)
    are views of one another's layout, and nothing is copied between them.
    """

    stem_overlaps = True
    stages: Any

    @abstractmethod
    def run_stem(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width, H/4, W/4)."""

    @abstractmethod
    def run_stages(self, x: Tensor) -> list[Tensor]:
        """What the stem gave, or the mask token -> what `feature_maps` returns."""

    def tokens(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self.run_stem(images).permute(0, 2, 3, 1)

    def embed(self, images: Tensor, hidden: Tensor | None) -> Tensor:
        if hidden is not None and self.stem_overlaps:
            images = images.masked_fill(to_pixels(hidden, self.patch)[:, None], 0.0)
        return super().embed(images, hidden)

    def stage_blocks(self) -> list[list[nn.Module]]:
        return [list(stage.blocks) for stage in self.stages]

    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        return self.run_stages(tokens.permute(0, 3, 1, 2))

    def describe(self, embed: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        """Set what `Encoder` names; `embed`: channels after the stem, the mask token's."""
        self.patch, self.widths, self.depths = PATCH, tuple(widths), tuple(depths)
        self.strides = tuple(PATCH * 2**stage for stage in range(len(depths)))
        self.mask_token = nn.Parameter(torch.empty(1, 1, 1, embed))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
