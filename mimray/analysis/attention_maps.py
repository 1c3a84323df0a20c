"""Looking at an encoder's attention while it runs, without touching what it computes.

Fused kernels keep no scores. So a hook takes what went into an attention module and works out queries and
keys once more, which costs the module's first linear product; the encoder's own pass is as ever, to the
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mimray.analysis.attention_layers import AttentionLayer, attention_layers, image_size
from mimray.mim.encoders import Encoder
from mimray.mim.encoders.dense_attention import DenseAttention
from mimray.mim.encoders.window_attention import SHUT, bias_at


@dataclass(frozen=True)
class Scores:
    """What an attention's softmax is taken of, in parts, for a batch of pictures.

    `queries` (scaled) and `keys`: (heads, pictures, windows, N, d); `bias`: the position bias,
    (heads, 1, 1, N, N), or None.
    """

    queries: Tensor
    keys: Tensor
    bias: Tensor | None

    def split(self, pictures: int) -> Iterator[Scores]:
        """The same in pieces of at most so many pictures."""
        for q, k in zip(self.queries.split(pictures, 1), self.keys.split(pictures, 1), strict=True):
            yield Scores(q, k, self.bias)

    def log_probabilities(self, shut: Tensor | None) -> Tensor:
        """The logarithm of every query's shares, `shut` as `shut_out` gives it.

        (windows, N, N) -> (heads, pictures, windows, N, N).
        """
        scores = self.queries @ self.keys.transpose(-2, -1)
        if self.bias is not None:
            scores += self.bias
        if shut is not None:
            scores += shut
        return scores.log_softmax(dim=-1)


def shut_out(pairs: Tensor) -> Tensor | None:
    """What is added to the scores where only `pairs`, bool (windows, N, N), count; None if all do.

    The others get a share of 0 with a finite logarithm, so that their product is 0 and not nan.
    """
    return None if pairs.all() else torch.where(pairs, 0.0, SHUT)


Look = Callable[[AttentionLayer, Scores], None]


@contextmanager
def watched(layers: Sequence[AttentionLayer], look: Look) -> Iterator[None]:
    """In here, `look` is called with a layer's scores as soon as the layer has run."""

    def hook(
        module: nn.Module,
        given: tuple[Any, ...],
        named: dict[str, Any],
        output: Any,
        layer: AttentionLayer,
    ) -> None:
        shared = named.get("shared_rel_pos_bias")  # of a ViT, whose blocks share one
        look(layer, _scores(module, given[0], shared, len(layer.positions)))

    hooks = [
        layer.module.register_forward_hook(partial(hook, layer=layer), with_kwargs=True)
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@torch.no_grad()
def attention_probabilities(encoder: Encoder, images: Tensor) -> dict[str, Tensor]:
    """The attention of every layer as the encoder computes it, by the layer's name (`block 1`, ...).

    Normalised images (B, 3, H, W) -> (B, windows, heads, N, N), the shares of every query sum to 1. A ViT
    is one window whose first token is the class token. All layers are in memory at once.

    Raises ValueError for an encoder without attention or in training mode, and for another image size.
    """
    found: dict[str, Tensor] = {}

    def look(layer: AttentionLayer, scores: Scores) -> None:
        shares = scores.log_probabilities(shut_out(layer.attends.to(images.device))).exp()
        found[layer.name] = shares.permute(1, 2, 0, 3, 4)

    with watched(attention_layers(encoder), look):
        run(encoder, images)
    return found


def run(encoder: Encoder, images: Tensor) -> None:
    """A forward pass for those who watch. Raises ValueError as `attention_probabilities`."""
    if encoder.training:
        raise ValueError(
            "attention is that of an encoder in evaluation mode; call its eval() before"
        )
    given, built = tuple(images.shape[-2:]), image_size(encoder)
    if given != built:
        raise ValueError(
            f"images of {given[0]} x {given[1]} pixels, but the encoder was built for {built[0]} x "
            f"{built[1]}; resize them or build it for theirs"
        )
    encoder(images)


def _scores(module: Any, x: Tensor, shared_bias: Tensor | None, windows: int) -> Scores:
    """Of tokens (B * windows, N, C), as `module` would compute them."""
    bias: Tensor | None
    if isinstance(module, DenseAttention):
        q, k, _ = module.project(x)
        bias = module.bias()
    else:
        q, k = _vit_queries_and_keys(module, x)
        bias = shared_bias
        if module.relative_position_bias_table is not None:
            index = module.relative_position_index[None]
            own = bias_at(module.relative_position_bias_table, index)
            bias = own if bias is None else bias + own
    if bias is not None:
        bias = bias.reshape(module.num_heads, 1, 1, *bias.shape[-2:])
    q, k = (part.unflatten(0, (-1, windows)).permute(2, 0, 1, 3, 4) for part in (q, k))
    return Scores(q, k, bias)


def _vit_queries_and_keys(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """timm's BEiT attention: (B, N, C) -> scaled queries and keys, each (B, heads, N, d)."""
    both = 2 * len(module.qkv.weight) // 3
    bias = None if module.q_bias is None else torch.cat([module.q_bias, module.k_bias])
    parts = linear(x, module.qkv.weight[:both], bias).unflatten(-1, (2, module.num_heads, -1))
    q, k = parts.permute(2, 0, 3, 1, 4)
    return q * module.scale, k
