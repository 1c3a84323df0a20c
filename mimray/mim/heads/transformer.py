"""Transformer head: MAE's decoder, which a visible-only encoder needs (He et al., section 3).

Where the encoder saw no hidden token, somebody has to look from hidden places to visible ones. One
block of 512 is the default: with ViT-B and 75 % hidden a forward pass then needs 3.5 times fewer
operations than the dense one, with MAE's eight blocks 1.8 times.
"""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mimray.mim.heads.shape import HeadShape
from mimray.recipe import Head

HEAD_WIDTH = 64  # channels of one attention head


class TransformerHead(nn.Module):
    """1 x 1 projection, fixed position, pre-norm blocks, norm, linear layer and pixel shuffle."""

    def __init__(self, shape: HeadShape, depth: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(shape.channels, width)
        self.blocks = nn.Sequential(
            *(Block(width, width // HEAD_WIDTH, qkv_bias=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, shape.outputs * shape.upscale**2)
        self.shuffle = nn.PixelShuffle(shape.upscale)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # as MAE (appendix A.1)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, outputs, h * upscale, w * upscale); any h and w."""
        rows, columns = features.shape[-2:]
        x = self.project(features.flatten(2).transpose(1, 2))
        x = x + sine_position(rows, columns, x.shape[-1], x.device).to(x.dtype)
        x = self.predict(self.norm(self.blocks(x)))
        return self.shuffle(x.transpose(1, 2).unflatten(2, (rows, columns)))


def sine_position(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the row in one half of the channels, of the column in the other.

    float32 (rows * columns, width); a quarter of the width for each, wave lengths from 2 pi to
    20,000 pi positions (Vaswani et al., section 3.5; in two dimensions MoCo v3 and MAE).
    """
    quarter = width // 4
    rate = 10_000.0 ** (-torch.arange(quarter, device=device) / quarter)
    row = torch.arange(rows, device=device)[:, None] * rate
    column = torch.arange(columns, device=device)[:, None] * rate
    waves = (row.sin()[:, None], row.cos()[:, None], column.sin()[None], column.cos()[None])
    return torch.cat([w.expand(rows, columns, -1) for w in waves], dim=-1).flatten(0, 1)


def transformer_head(shape: HeadShape, settings: Head) -> nn.Module:
    """`settings.depth` blocks of `settings.width` channels, in heads of 64."""
    return TransformerHead(shape, settings.depth, settings.width)
