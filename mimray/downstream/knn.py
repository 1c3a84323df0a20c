"""Weighted nearest neighbours: what frozen features are worth without any training.

The product of all queries with all features is made block by block, and of each block only the best k
are kept, so memory does not grow with the number of features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.downstream.rows import Features, check_labels, float_rows

_ROWS, _QUERIES = 8192, 512  # of one block of similarities, 16 MiB
_GROUP = 16  # rows whose maximum stands for them
_NOTHING = torch.iinfo(torch.int64).min  # sorts below every neighbour
_LOW = 2**31 - 1


def knn_scores(
    features: Features,
    labels: Tensor,
    classes: int,
    queries: Features,
    k: int = 20,
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Each class's share of a query's `k` nearest features, weighted by exp(cosine / temperature).

    `features` with `labels`, int64 (n,): the training set; `queries` (m, C). Returns float32
    (m, classes) on the CPU, whose rows sum to 1. Of features equally near the one of the lower row
    counts as nearer; where there are fewer than `k`, all count. Source: Wu et al., Unsupervised
    Feature Learning via Non-Parametric Instance Discrimination, 2018, section 3.4; k = 20 as DINO
    (Caron et al., 2021, section 4.1).

    Raises ValueError where shapes do not fit, a label is out of range or features are not finite.
    """
    _check(features, labels, queries, k)
    check_labels(labels, len(features), classes)
    similarity, row = nearest(features, queries, min(k, len(features)), device)
    weight = torch.softmax(similarity / temperature, dim=1)
    scores = torch.zeros(len(queries), classes)
    return scores.scatter_add_(1, labels.cpu()[row], weight)


def nearest(
    features: Features, queries: Features, k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Cosine and row of the `k` features nearest to each query, nearest first, on the CPU.

    Returns float32 and int64 (m, k). `k` is at most the number of features.
    """
    best = torch.full((len(queries), k), _NOTHING)
    space = torch.empty(_ROWS * _QUERIES, device=device)
    for start in range(0, len(features), _ROWS):
        rows = _unit(features, start, _ROWS, device)
        for first in range(0, len(queries), _QUERIES):
            block = _unit(queries, first, _QUERIES, device)
            similarity = space[: len(rows) * len(block)].view(len(rows), len(block))
            torch.mm(rows, block.T, out=similarity)
            before = best[first : first + _QUERIES]
            both = torch.cat([before.to(device), _best(similarity, start, k)], dim=1)
            before.copy_(both.topk(k, dim=1).values)
    return _similarity(best), _row(best)


def _unit(features: Features, start: int, count: int, device: torch.device | str) -> Tensor:
    """Rows from `start` on, of length 1; raises ValueError where they are not finite."""
    block = float_rows(features, slice(start, start + count), device)
    norm = block.norm(dim=1, keepdim=True)
    if not norm.isfinite().all():
        raise ValueError("features are not finite; has the checkpoint that gave them diverged?")
    return block / norm.clamp(min=1e-12)


def _best(similarity: Tensor, start: int, k: int) -> Tensor:
    """The `k` largest of each column as keys, int64 (m, up to k), of rows that begin at `start`.

    topk of whole columns would break ties as it likes. Here rows in a row are a group: those that come
    first, by the order of keys, lie in the `k` groups whose maxima come first. Only these are compared.
    """
    count, queries = similarity.shape
    whole = count // _GROUP * _GROUP
    groups = similarity[:whole].view(-1, _GROUP, queries)
    maxima = groups.amax(dim=1).T
    number = torch.arange(maxima.shape[1], device=maxima.device)
    chosen = _row(_keys(maxima, number).topk(min(k, len(number)), dim=1).values).T
    places = torch.arange(_GROUP, device=maxima.device)[None, :, None]
    members = groups.gather(0, chosen[:, None].expand(-1, _GROUP, -1))
    keys = _keys(members, start + chosen[:, None] * _GROUP + places).flatten(0, 1)
    rest = torch.arange(start + whole, start + count, device=maxima.device)[:, None]
    keys = torch.cat([keys, _keys(similarity[whole:], rest)]).T
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def _keys(similarity: Tensor, row: Tensor) -> Tensor:
    """int64 that sort as the similarities do, and equal ones by descending row.

    The bits of a positive float32 sort as integers; those of a negative one do so reversed.
    """
    bits = similarity.contiguous().view(torch.int32)
    bits = bits ^ ((bits >> 31) & _LOW)
    return (bits.long() << 32) | (_LOW - row)


def _row(keys: Tensor) -> Tensor:
    return _LOW - (keys & 0xFFFFFFFF)


def _similarity(keys: Tensor) -> Tensor:
    bits = (keys >> 32).to(torch.int32)
    return (bits ^ ((bits >> 31) & _LOW)).view(torch.float32)


def _check(features: Features, labels: Tensor, queries: Features, k: int) -> None:
    if features.ndim != 2 or queries.ndim != 2 or features.shape[1] != queries.shape[1]:
        raise ValueError(
            f"features of shape {tuple(features.shape)} and queries of {tuple(queries.shape)} are not "
            "of the same layer; both are (rows, channels)"
        )
    if labels.ndim != 1:
        raise ValueError(
            "neighbours vote for one label each; labels of several want a linear probe"
        )
    if k < 1:
        raise ValueError(f"k={k} neighbours are too few; take 1 or more")
