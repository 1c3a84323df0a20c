"""What of an attention counts: which queries and keys, how far apart they are, and what the maximum is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mimray.analysis.attention_layers import AttentionLayer
from mimray.analysis.attention_maps import shut_out
from mimray.analysis.statistics import pair_distances


@dataclass(frozen=True)
class Counted:
    """Of one layer and one picture.

    `shut`: what `shut_out` gives for the pairs that count, or None; `queries`: 1 where a query counts and
    0 elsewhere, (windows, N, 1), or None where all do; `distances`: (windows, N, N) in pixels.
    `count`: queries that do; `placed`: those of them that are parts of the picture; `uniform_nats`: the
    entropy of equal shares over the keys of a query, their mean, for a shift leaves some windows fewer.
    """

    shut: Tensor | None
    queries: Tensor | None
    distances: Tensor
    count: int
    placed: int
    uniform_nats: float


def counted(layer: AttentionLayer, keep_class: bool, device: torch.device) -> Counted:
    """The tokens of the picture count, and a class token that is kept."""
    tokens = layer.placed
    if layer.class_token and keep_class:
        tokens[:, 0] = True
    pairs = layer.attends & tokens[:, :, None] & tokens[:, None, :]
    keys = pairs.sum(dim=-1)[tokens]
    shut = shut_out(pairs)
    return Counted(
        shut=None if shut is None else shut.to(device),
        queries=None if tokens.all() else tokens[..., None].float().to(device),
        distances=pair_distances(layer.positions).to(device),
        count=int(tokens.sum()),
        placed=int(layer.placed.sum()),
        uniform_nats=keys.double().log().mean().item(),
    )
