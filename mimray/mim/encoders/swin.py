"""Swin v1 through timm, with SimMIM's mask token after the patch embedding and its norm."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor

from mimray.mim.encoders.dense_attention import BiasedAttention, use_dense_attention
from mimray.mim.encoders.swin_stages import SwinStages, swin_spec
from mimray.mim.encoders.visible_swin import VisibleStages
from mimray.mim.encoders.window_attention import Layout, attend


class SwinEncoder(SwinStages, SwinTransformer):  # type: ignore[misc]
    """Satisfies `Encoder`. Source: SimMIM `models/simmim.py`, SwinTransformerForSimMIM."""

    family = "swin"

    def __init__(self, *sizes: Any, **more: Any) -> None:
        """`sizes`, `more`: see `SwinStages`."""
        super().__init__(*sizes, **more)
        use_dense_attention(self.layers, BiasedAttention)


class VisibleSwinBlock(SwinTransformerBlock):
    """timm's block, on visible tokens (B, V, C) where they have a layout."""

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        if layout is None:
            return super().forward(x)
        x = x + self.drop_path1(attention(self.attn, self.norm1(x), layout))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class VisibleSwinEncoder(VisibleStages, SwinEncoder):  # type: ignore[misc]
    """Encodes `visible` tokens of each picture and no others; see `VisibleStages`."""

    visible_block = VisibleSwinBlock


def attention(attn: Any, tokens: Tensor, layout: Layout) -> Tensor:
    """timm's window attention on visible tokens, (B, V, C) -> the same."""
    q, k, v = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).unbind(2)
    return attn.proj(attend(q * attn.scale, k, v, attn.relative_position_bias_table, layout))


_TAKES = ("image_size", "window")
_spec = partial(swin_spec, SwinEncoder, VisibleSwinEncoder, _TAKES)

SPECS = {
    "swin_nano": _spec(32, (1, 1, 4), (2, 4, 8), 6),
    "swin_micro": _spec(48, (1, 1, 4), (3, 6, 12), 6),
    "swin_mini": _spec(72, (1, 1, 4), (3, 6, 12), 6),
    "swin_tiny": _spec(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_small": _spec(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_base": _spec(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_large": _spec(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
