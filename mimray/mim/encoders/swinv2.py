"""Swin v2 through timm: residual post-norm, cosine attention, continuous position bias."""

from __future__ import annotations

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from mimray.mim.encoders.swin import encode


class SwinV2Encoder(SwinTransformerV2):
    """Satisfies `Encoder`. Source: Swin-Transformer `models/simmim.py`, SwinTransformerV2ForSimMIM.

    Pre-training has no pre-trained windows: the position bias sees its own window's coordinates.
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
            pretrained_window_sizes=(0,) * len(depths),
        )
        self.patch = patch
        self.stride = patch * 2 ** (len(depths) - 1)
        self.channels = self.num_features
        self.mask_token = nn.Parameter(torch.empty(1, 1, 1, embed))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return encode(self, images, hidden)


def swinv2(**sizes: object) -> nn.Module:
    """Build a `SwinV2Encoder`."""
    return SwinV2Encoder(**sizes)  # type: ignore[arg-type]
