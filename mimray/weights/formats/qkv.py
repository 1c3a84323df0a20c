"""Queries, keys and values: projects keep them in one matrix or in three, with two biases or three.

mimray's ViT and SwinV2 have one matrix and no bias of the keys. For the ViT that is no loss: a key's
bias adds the same to all scores of one query, and the softmax cancels it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mimray.weights.formats.protocol import Translated, Weights

KEY_BIAS = "the softmax cancels a bias of the keys"


def cut_bias(weights: Mapping[str, Tensor]) -> Translated:
    """`attn.qkv.bias` (3C) into `attn.q_bias` and `attn.v_bias` (C each)."""
    cut: Weights = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        if not name.endswith("attn.qkv.bias"):
            cut[name] = tensor
            continue
        attention = name.removesuffix("qkv.bias")
        cut[f"{attention}q_bias"], _, cut[f"{attention}v_bias"] = tensor.chunk(3)
        dropped[f"{name} (the keys' third)"] = KEY_BIAS
    return Translated(cut, dropped)


def join_bias(weights: Mapping[str, Tensor]) -> Weights:
    """The inverse of `cut_bias`; the keys' bias is zero."""
    joined: Weights = {}
    for name, tensor in weights.items():
        if name.endswith("attn.q_bias"):
            attention = name.removesuffix("q_bias")
            parts = (tensor, torch.zeros_like(tensor), weights[f"{attention}v_bias"])
            joined[f"{attention}qkv.bias"] = torch.cat(parts)
        elif not name.endswith("attn.v_bias"):
            joined[name] = tensor
    return joined


def join_three(weights: Mapping[str, Tensor], keys_have_bias: bool) -> Translated:
    """`attn.q.*`, `attn.k.*`, `attn.v.*` into `attn.qkv.*`; the biases, unless `keys_have_bias`, into
    `q_bias` and `v_bias`. Raises ValueError where one of the three is missing."""
    joined: Weights = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        attention, part = _attention(name)
        fused = part.endswith(".weight") or keys_have_bias
        if part[:2] not in ("q.", "k.", "v.") or not attention:
            joined[name] = tensor
        elif fused and part[0] == "q":
            joined[f"{attention}qkv{part[1:]}"] = _join(weights, attention, part[1:])
        elif not fused and part[0] == "k":
            dropped[name] = KEY_BIAS
        elif not fused:
            joined[f"{attention}{part[0]}_bias"] = tensor
    return Translated(joined, dropped)


def cut_three(weights: Mapping[str, Tensor], keys_get_bias: bool) -> Weights:
    """The inverse of `join_three`; where the keys had no bias, and `keys_get_bias`, it is zero."""
    cut: Weights = {}
    for name, tensor in weights.items():
        attention, part = _attention(name)
        if part in ("qkv.weight", "qkv.bias"):
            for each, third in zip("qkv", tensor.chunk(3), strict=True):
                cut[f"{attention}{each}{part[3:]}"] = third
        elif part in ("q_bias", "v_bias"):
            cut[f"{attention}{part[0]}.bias"] = tensor
            if part == "q_bias" and keys_get_bias:
                cut[f"{attention}k.bias"] = torch.zeros_like(tensor)
        else:
            cut[name] = tensor
    return cut


def _attention(name: str) -> tuple[str, str]:
    """`blocks.0.attn.q.weight` -> (`blocks.0.attn.`, `q.weight`); the first is empty elsewhere."""
    before, mark, part = name.rpartition("attn.")
    return before + mark, part


def _join(weights: Mapping[str, Tensor], attention: str, what: str) -> Tensor:
    names = [f"{attention}{each}{what}" for each in "qkv"]
    if missing := [name for name in names if name not in weights]:
        raise ValueError(f"the file has no {missing[0]}, which {names[0]} needs")
    return torch.cat([weights[name] for name in names])
