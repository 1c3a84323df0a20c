"""Swin v1 through timm, with SimMIM's mask token after the patch embedding and its norm."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from mimray.mim.encoders.protocol import Encoder, EncoderSpec, ImageSize
from mimray.mim.encoders.visible_swin import VisibleStages
from mimray.mim.encoders.window_attention import Layout, attend


class SwinEncoder(Encoder, SwinTransformer):  # type: ignore[misc]
    """Satisfies `Encoder`. Source: SimMIM `models/simmim.py`, SwinTransformerForSimMIM.

    Hidden tokens are replaced after the patch embedding's LayerNorm, and all tokens go through the
    stages, so hidden ones cost as much as visible ones.
    """

    family = "swin"

    def __init__(
        self,
        image_size: ImageSize,
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
        describe(self, patch, embed, depths)

    def tokens(self, images: Tensor) -> Tensor:
        return self.patch_embed(images)

    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        return run_stages(self, tokens)


class VisibleSwinEncoder(VisibleStages, SwinEncoder):  # type: ignore[misc]
    """Encodes `visible` tokens of each picture and no others; see `VisibleStages`."""

    def run_block(self, block: Any, tokens: Tensor, layout: Layout) -> Tensor:
        tokens = tokens + block.drop_path1(attention(block.attn, block.norm1(tokens), layout))
        return tokens + block.drop_path2(block.mlp(block.norm2(tokens)))


def attention(attn: Any, tokens: Tensor, layout: Layout) -> Tensor:
    """timm's window attention on visible tokens, (B, V, C) -> the same."""
    q, k, v = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).unbind(2)
    return attn.proj(attend(q * attn.scale, k, v, attn.relative_position_bias_table, layout))


def describe(encoder: Any, patch: int, embed: int, depths: tuple[int, ...]) -> None:
    """Give a Swin of either version what `Encoder` names, the mask token among it."""
    encoder.patch, encoder.depths = patch, tuple(depths)
    encoder.strides = tuple(patch * 2**stage for stage in range(len(depths)))
    encoder.widths = tuple(embed * 2**stage for stage in range(len(depths)))
    encoder.mask_token = nn.Parameter(torch.empty(1, 1, 1, embed))
    nn.init.trunc_normal_(encoder.mask_token, std=0.02)


def run_stages(encoder: Any, tokens: Tensor) -> list[Tensor]:
    """A Swin's stages: tokens (B, rows, columns, embed) -> (B, C, h, w) of each, the last normed.

    timm merges patches at the start of a stage, so a stage ends with its last block.
    """
    features: list[Tensor] = []
    for stage in encoder.layers:
        tokens = stage(tokens)
        features.append(tokens)
    features[-1] = encoder.norm(tokens)
    return [f.permute(0, 3, 1, 2) for f in features]


def _spec(embed: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> EncoderSpec:
    sizes = {"embed": embed, "depths": depths, "heads": heads}
    return EncoderSpec("swin", SwinEncoder, sizes, window, visible_only=VisibleSwinEncoder)


SPECS = {
    "swin_nano": _spec(32, (1, 1, 4), (2, 4, 8), 6),
    "swin_tiny": _spec(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_small": _spec(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_base": _spec(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_large": _spec(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
