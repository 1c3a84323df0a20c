"""Swin v1 through timm, with SimMIM's mask token after the patch embedding and its norm."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn


class SwinEncoder(SwinTransformer):
    """Satisfies `Encoder`. Source: SimMIM `models/simmim.py`, SwinTransformerForSimMIM.

    Hidden tokens are replaced after the patch embedding's LayerNorm, and all tokens go through the
    stages, so hidden ones cost as much as visible ones.
    """

    def __init__(
        self,
        image_size: int,
        window: int,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        patch: int = 4,
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=patch,
            num_classes=0,
            global_pool="",
            embed_dim=embed,
            depths=depths,
            num_heads=heads,
            window_size=window,
            drop_path_rate=drop_path,
        )
        self.patch = patch
        self.stride = patch * 2 ** (len(depths) - 1)
        self.channels = self.num_features
        self.mask_token = nn.Parameter(torch.empty(1, 1, 1, embed))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return encode(self, images, hidden)


def encode(encoder: nn.Module, images: Tensor, hidden: Tensor) -> Tensor:
    """Features of a Swin of either version: (B, 3, H, W), (B, h, w) -> (B, C, H/32, W/32)."""
    swin: Any = encoder
    tokens = swin.patch_embed(images)  # (B, rows, columns, embed)
    tokens = torch.where(hidden[..., None], swin.mask_token.to(tokens.dtype), tokens)
    features: Tensor = swin.norm(swin.layers(tokens))
    return features.permute(0, 3, 1, 2)


def swin(**sizes: object) -> nn.Module:
    """Build a `SwinEncoder`."""
    return SwinEncoder(**sizes)  # type: ignore[arg-type]
