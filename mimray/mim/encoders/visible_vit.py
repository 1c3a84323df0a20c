"""ViT over visible tokens only, as MAE's encoder, with every kind of position that the dense one has."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.beit import Block
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, scaled_dot_product_attention

from mimray.mim.encoders.packing import embed_visible, to_map, visible_places
from mimray.mim.encoders.protocol import Encoder
from mimray.mim.encoders.window_attention import bias_at


class VisibleBlock(Block):
    """timm's BEiT block, on some tokens of each picture where it is told which."""

    def forward(
        self, x: Tensor, shared_rel_pos_bias: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, n, embed), standing `at` (B, n); a table of the block's own goes before the bias
        that is given."""
        if at is None:
            return super().forward(x, shared_rel_pos_bias)
        bias = shared_rel_pos_bias
        if self.attn.relative_position_bias_table is not None:
            bias = position_bias(self.attn, at)
        one = 1.0 if self.gamma_1 is None else self.gamma_1
        two = 1.0 if self.gamma_2 is None else self.gamma_2
        x = x + self.drop_path1(one * attention(self.attn, self.norm1(x), bias))
        return x + self.drop_path2(two * self.mlp(self.norm2(x)))


class VisibleBlocks(Encoder):
    """Goes before the dense ViT in the bases of its visible-only variant.

    `visible`: tokens of a picture that are, or None to count them in every batch. Parameters have the
    dense encoder's names and shapes, but `mask_token` stands at hidden places of the last map, after
    the encoder, and has another shape, so that nobody takes it for the dense encoder's. Earlier maps
    are 0 there. With nothing hidden it is the dense encoder.
    """

    blocks: Any
    patch_embed: Any
    norm: Any
    cls_token: Any
    pos_embed: Any
    rel_pos_bias: Any
    ends: tuple[int, ...]

    def __init__(self, *sizes: Any, visible: int | None = None, **more: Any) -> None:
        super().__init__(*sizes, **more)
        self.visible = visible
        for block in self.blocks:
            block.__class__ = VisibleBlock  # timm's encoder names the class that it builds
        self.mask_token = nn.Parameter(self.mask_token.detach()[None])

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        if hidden is None:
            return super().forward(images)
        places = visible_places(hidden, 1, self.visible)
        tokens = embed_visible(self.patch_embed, images, places)
        first = self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1)
        at = nn.functional.pad(places.index + 1, (1, 0))  # the class token stands at 0
        outputs = self._run(torch.cat([first, tokens], dim=1), at)
        fills = [None] * (len(outputs) - 1) + [self.mask_token.flatten()]
        return [to_map(x[:, 1:], places, f) for x, f in zip(outputs, fills, strict=True)]

    def _run(self, x: Tensor, at: Tensor) -> list[Tensor]:
        """Tokens (B, 1 + V, embed), standing `at` (B, 1 + V) -> the same at each stage's end."""
        if self.pos_embed is not None:
            x = x + embedding(at, self.pos_embed[0]).to(x.dtype)
        shared = self.rel_pos_bias
        bias = None if shared is None else position_bias(shared, at)
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, bias, at)
            if number in self.ends:
                outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs


def position_bias(table: Any, at: Tensor) -> Tensor:
    """The bias of timm's table between the tokens `at` (B, n) of each picture: (B, heads, n, n)."""
    index = table.relative_position_index[at[:, :, None], at[:, None, :]]
    return bias_at(table.relative_position_bias_table, index)


def attention(attn: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """timm's BEiT attention with a bias of each picture, (B, n, embed) -> the same."""
    added = None if attn.q_bias is None else torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    qkv = linear(x, attn.qkv.weight, added).unflatten(-1, (3, attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return attn.proj(scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))
