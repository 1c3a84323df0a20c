"""Swin v2 through timm: residual post-norm, cosine attention, continuous position bias."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor
from torch.nn.functional import linear, normalize

from mimray.mim.encoders.protocol import Encoder, EncoderSpec, ImageSize
from mimray.mim.encoders.swin import describe, run_stages
from mimray.mim.encoders.visible_swin import VisibleStages
from mimray.mim.encoders.window_attention import Layout, attend


class SwinV2Encoder(Encoder, SwinTransformerV2):  # type: ignore[misc]
    """Satisfies `Encoder`. Source: Swin-Transformer `models/simmim.py`, SwinTransformerV2ForSimMIM.

    In pre-training the position bias is scaled by the window's own size; fine-tuning with another
    window names the `pretrained_windows` of each stage (12, 12, 12, 6 for 192 px and window 12).
    """

    family = "swinv2"

    def __init__(
        self,
        image_size: ImageSize,
        window: int,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        patch: int = 4,
        pretrained_windows: tuple[int, ...] | None = None,
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
            pretrained_window_sizes=pretrained_windows or (0,) * len(depths),
        )
        describe(self, patch, embed, depths)

    def tokens(self, images: Tensor) -> Tensor:
        return self.patch_embed(images)

    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        return run_stages(self, tokens)


class VisibleSwinV2Encoder(VisibleStages, SwinV2Encoder):  # type: ignore[misc]
    """Encodes `visible` tokens of each picture and no others; see `VisibleStages`."""

    def run_block(self, block: Any, tokens: Tensor, layout: Layout) -> Tensor:
        tokens = tokens + block.drop_path1(block.norm1(attention(block.attn, tokens, layout)))
        return tokens + block.drop_path2(block.norm2(block.mlp(tokens)))


def attention(attn: Any, tokens: Tensor, layout: Layout) -> Tensor:
    """timm's cosine attention on visible tokens, (B, V, C) -> the same."""
    bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    qkv = linear(tokens, attn.qkv.weight, bias).unflatten(-1, (3, attn.num_heads, -1))
    q, k, v = qkv.unbind(2)
    scale = attn.logit_scale.clamp(max=math.log(100.0)).exp().flatten(1)  # (heads, 1)
    offsets = attn.cpb_mlp(attn.relative_coords_table).flatten(0, 2)
    table = 16.0 * torch.sigmoid(offsets)
    return attn.proj(attend(normalize(q, dim=-1) * scale, normalize(k, dim=-1), v, table, layout))


def _spec(embed: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> EncoderSpec:
    sizes = {"embed": embed, "depths": depths, "heads": heads}
    return EncoderSpec("swinv2", SwinV2Encoder, sizes, window, visible_only=VisibleSwinV2Encoder)


# The data-scaling study's five (On Data Scaling in MIM, table 1): 49, 87, 195, 655 and 1061 M. Its
# "g", for giant, is not SwinV2-G, which has 3 billion parameters (Swin Transformer V2, section 4.1).
SPECS = {
    "swinv2_nano": _spec(32, (1, 1, 4), (2, 4, 8), 6),
    "swinv2_tiny": _spec(96, (2, 2, 6, 2), (3, 6, 12, 24), 12),
    "swinv2_small": _spec(96, (2, 2, 18, 2), (3, 6, 12, 24), 12),
    "swinv2_base": _spec(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swinv2_large": _spec(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
    "swinv2_huge": _spec(352, (2, 2, 18, 2), (11, 22, 44, 88), 12),
    "swinv2_giant": _spec(448, (2, 2, 18, 2), (14, 28, 56, 112), 12),
    "swinv2_3b": _spec(512, (2, 2, 42, 4), (16, 32, 64, 128), 12),
}
