"""Attention of all tokens in windows: timm's layers of Swin and SwinV2, with fewer passes over the scores.

Scores are the largest tensors of these encoders. timm scales those of SwinV2, adds the position bias
and then the shift's mask, a pass for each. Here the scale goes into the queries, and all that is added is
one mask, made once a block from what no picture changes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from timm.models.swin_transformer import WindowAttention as SwinAttention
from timm.models.swin_transformer_v2 import WindowAttention as SwinV2Attention
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from mimray.mim.encoders.window_attention import bias_at


class DenseAttention(nn.Module):
    """Goes before timm's window attention in the bases; parameters and results are timm's.

    Who looks at the attention asks `project` and `mask`: the shares are
    `scores(q, k, mask).softmax(-1)`, whatever `attend` computes them with.
    """

    num_heads: int
    relative_position_index: Any
    proj: Any

    @abstractmethod
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(windows, N, C) -> scaled queries, keys and values, each (windows, heads, N, d)."""

    @abstractmethod
    def bias(self) -> Tensor:
        """The position bias of a window, (1, heads, N, N)."""

    def mask(self, shift: Tensor | None) -> Tensor:
        """What is added to the scores: the bias and, of a shifted picture's windows, `shift`
        (W, N, N) -> (1 or W, heads, N, N)."""
        return self.bias() if shift is None else self.bias() + shift[:, None]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Windows (B * W, N, C), a picture's W side by side, and timm's mask of the shift (W, N, N)
        -> (B * W, N, C)."""
        out = attend(*self.project(x), self.mask(mask))
        return self.proj(out.transpose(1, 2).flatten(2))


class BiasedAttention(DenseAttention, SwinAttention):
    """Swin's: scaled dot products and a table of relative position biases."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split(self.qkv(x), self.num_heads)
        return q * self.scale, k, v

    def bias(self) -> Tensor:
        return bias_at(self.relative_position_bias_table, self.relative_position_index[None])


class CosineAttention(DenseAttention, SwinV2Attention):
    """SwinV2's: cosines times a learnt scale of each head, and biases from an MLP of the offset."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split(linear(x, self.qkv.weight, qkv_bias(self)), self.num_heads)
        return normalize(q, dim=-1) * logit_scale(self), normalize(k, dim=-1), v

    def bias(self) -> Tensor:
        return bias_at(bias_table(self), self.relative_position_index[None])


def use_dense_attention(stages: Any, attention: type[DenseAttention]) -> None:
    """Let the blocks of timm's stages compute their attention as `attention` does.

    timm's blocks name the class that they build. `attention` adds nothing to that but methods, so the
    objects change class, and parameters, names and random draws stay.
    """
    for stage in stages:
        for block in stage.blocks:
            block.attn.__class__ = attention


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k + mask) v: (B * W, heads, N, d) and a mask (1 or W, heads, N, N) -> q's shape.

    A CPU has no fused kernel for a mask with a gradient, and what torch does instead is slower than
    the plain formula.
    """
    return fused(q, k, v, mask) if q.is_cuda else plain(q, k, v, mask)


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """`attend`, written out."""
    return scores(q, k, mask).softmax(dim=-1) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """`attend` through torch's kernels, which keep no scores for the backward pass.

    They take one mask for all of a batch, so the windows of a picture stand beside its heads. That
    copies q, k and v of shifted windows; the mask of every picture would be N / d times as much.
    """
    windows, heads = mask.shape[:2]
    q, k, v = (x.unflatten(0, (-1, windows)).flatten(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, mask.flatten(0, 1)[None], scale=1.0)
    return out.unflatten(1, (windows, heads)).flatten(0, 1)


def scores(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Of every pair of a window's tokens, before the softmax: (B * W, heads, N, N)."""
    pairs = q @ k.transpose(-2, -1)
    return (pairs.unflatten(0, (-1, len(mask))) + mask).flatten(0, 1)


def split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(windows, N, 3 * heads * d) -> queries, keys and values, each (windows, heads, N, d)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def qkv_bias(attn: Any) -> Tensor:
    """Of timm's SwinV2 attention: the keys' part is 0, for it would add the same to all scores."""
    return torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])


def logit_scale(attn: Any) -> Tensor:
    """Of timm's SwinV2 attention, at most 100 (Swin Transformer V2, section 3.3): (heads, 1, 1)."""
    return attn.logit_scale.clamp(max=math.log(100.0)).exp()


def bias_table(attn: Any) -> Tensor:
    """Of timm's SwinV2 attention, from 0 to 16 as in the official code: (offsets, heads)."""
    offsets = attn.cpb_mlp(attn.relative_coords_table).flatten(0, 2)
    return 16.0 * torch.sigmoid(offsets)
