"""Swin v2 through timm: residual post-norm, cosine attention, continuous position bias."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from torch import Tensor
from torch.nn.functional import linear, normalize

from mimray.mim.encoders.dense_attention import (
    CosineAttention,
    bias_table,
    logit_scale,
    qkv_bias,
    use_dense_attention,
)
from mimray.mim.encoders.protocol import ImageSize
from mimray.mim.encoders.swin_stages import SwinStages, swin_spec
from mimray.mim.encoders.visible_swin import VisibleStages
from mimray.mim.encoders.window_attention import Layout, attend


class SwinV2Encoder(SwinStages, SwinTransformerV2):  # type: ignore[misc]
    """Satisfies `Encoder`. Source: Swin-Transformer `models/simmim.py`, SwinTransformerV2ForSimMIM.

    In pre-training the position bias is scaled by the window's own size; fine-tuning with another
    window names the `pretrained_windows` of each stage (12, 12, 12, 6 for 192 px and window 12).

    `bias_windows`, int64 (stages, 2): rows and columns of the windows that scale it. It computes
    nothing; a checkpoint carries it, for no weight's shape tells (`mimray.weights.bias_windows`).
    """

    family = "swinv2"
    bias_windows: Tensor

    def __init__(
        self,
        image_size: ImageSize,
        window: int,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
        *sizes: Any,
        pretrained_windows: tuple[int | tuple[int, int], ...] | None = None,
        **more: Any,
    ) -> None:
        """`sizes`, `more`: see `SwinStages`. Raises ValueError for `pretrained_windows` that are not one
        for each of its stages."""
        if pretrained_windows is not None:
            check_pretrained(pretrained_windows, len(depths))
            more["pretrained_window_sizes"] = pretrained_windows
        super().__init__(image_size, window, drop_path, embed, depths, *sizes, **more)
        use_dense_attention(self.layers, CosineAttention)
        self.register_buffer("bias_windows", bias_windows(self.layers))


class VisibleSwinV2Block(SwinTransformerV2Block):
    """timm's block, on visible tokens (B, V, C) where they have a layout."""

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        if layout is None:
            return super().forward(x)
        x = x + self.drop_path1(self.norm1(attention(self.attn, x, layout)))
        return x + self.drop_path2(self.norm2(self.mlp(x)))


class VisibleSwinV2Encoder(VisibleStages, SwinV2Encoder):  # type: ignore[misc]
    """Encodes `visible` tokens of each picture and no others; see `VisibleStages`."""

    visible_block = VisibleSwinV2Block


def attention(attn: Any, tokens: Tensor, layout: Layout) -> Tensor:
    """timm's cosine attention on visible tokens, (B, V, C) -> the same."""
    qkv = linear(tokens, attn.qkv.weight, qkv_bias(attn)).unflatten(-1, (3, attn.num_heads, -1))
    q, k, v = qkv.unbind(2)
    q = normalize(q, dim=-1) * logit_scale(attn).flatten(1)
    return attn.proj(attend(q, normalize(k, dim=-1), v, bias_table(attn), layout))


def check_pretrained(windows: tuple[int | tuple[int, int], ...], stages: int) -> None:
    """Raises ValueError for windows that timm would fail on, and for one token, by whose offsets, all 0,
    nothing can be scaled; 0 is a stage's own window."""
    if len(windows) != stages:
        raise ValueError(
            f"pretrained_windows={windows} names {len(windows)}, and the encoder has {stages} stages; name "
            f"one for each"
        )
    for window in windows:
        sides = window if isinstance(window, tuple) else (window,)
        if any(side < 0 or side == 1 for side in sides):
            raise ValueError(
                f"pretrained_windows={windows}: {window} is no window; it is 2 tokens or more, or 0 "
                f"for the stage's own"
            )


def bias_windows(stages: Any) -> Tensor:
    """What `SwinV2Encoder.bias_windows` holds, of timm's stages; 0 for a window of one token, which has
    no offsets to scale."""
    windows: list[list[int]] = []
    for stage in stages:
        attn = stage.blocks[0].attn
        given, own = attn.pretrained_window_size, attn.window_size
        windows.append([side if side > 1 else 0 for side in (given if any(given) else own)])
    return torch.tensor(windows, device="cpu")  # with values in a model that is built on no device


_TAKES = ("image_size", "window", "pretrained_windows")
_spec = partial(swin_spec, SwinV2Encoder, VisibleSwinV2Encoder, _TAKES)

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
