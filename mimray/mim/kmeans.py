"""k-means (Lloyd, 1982) from a k-means++ start (Arthur and Vassilvitskii, 2007), in plain torch.

The draws of the start are hashes, and sums are taken in order, so the same points and seed give the
same centres on a CPU, every time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mimray.hashing import Purpose, key, uniform

_BLOCK = 1 << 24  # numbers that are looked at together; it bounds the memory
_ROUNDS = 50
_ENOUGH = 1e-3  # share by which a round must still lower the distortion
_START_POINTS = 1 << 14  # that k-means++ looks at, or more for thousands of clusters


class Clustering(NamedTuple):
    """`centres`: float32 (clusters, dimensions); `distortion`: the mean squared distance of a point to
    its centre; `rounds`: how often the centres were moved."""

    centres: Tensor
    distortion: float
    rounds: int


def kmeans(points: Tensor, clusters: int, seed: int = 0, rounds: int = _ROUNDS) -> Clustering:
    """Cluster float32 points (n, dimensions), until a round gains little or `rounds` are done.

    Raises ValueError where there are fewer different points than clusters.
    """
    centres = spread_out(points, clusters, seed)
    before, number = float("inf"), 0
    while True:
        labels = nearest(points, centres)
        distances = squared_distances(points, centres, labels)
        distortion = float(distances.mean(dtype=torch.float64))
        if number == rounds or distortion >= before * (1 - _ENOUGH):
            return Clustering(centres, distortion, number)
        centres = means(points, labels, distances, clusters)
        before, number = distortion, number + 1


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of every point: (n, d), (clusters, d) -> int64 (n,); of equals, the first.

    |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2), and |x|^2 is the same for all centres. Always in float32:
    in a product of bfloat16 a colour of 256 levels would be several levels off.
    """
    found = []
    with torch.autocast(points.device.type, enabled=False):
        centres = centres.float()
        bias = centres.square().sum(dim=1) / -2
        for block in points.float().split(max(1, _BLOCK // len(centres))):
            found.append(torch.addmm(bias, block, centres.T).argmax(dim=1))
    return torch.cat(found)


def squared_distances(points: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Of every point to its centre: float32 (n,). Exactly 0 where they are the same."""
    blocks = zip(_blocks(points), _blocks(labels, points.shape[1]), strict=True)
    return torch.cat([(x - centres[own]).square().sum(dim=1) for x, own in blocks])


def means(points: Tensor, labels: Tensor, distances: Tensor, clusters: int) -> Tensor:
    """The mean of every cluster's points. Empty clusters move to the points that are farthest off."""
    sums = torch.zeros(clusters, points.shape[1], dtype=torch.float64, device=points.device)
    for x, own in zip(_blocks(points), _blocks(labels, points.shape[1]), strict=True):
        sums.index_add_(0, own, x.double())
    counts = labels.bincount(minlength=clusters)
    empty = (counts == 0).nonzero().flatten()
    centres = (sums / counts.clamp(min=1)[:, None]).float()
    centres[empty] = points[distances.topk(len(empty)).indices]
    return centres


def spread_out(points: Tensor, clusters: int, seed: int) -> Tensor:
    """Points to start from: the first at random, the next likelier the farther from all before.

    Of many points it looks at some, spread evenly. Raises ValueError where too few are different.
    """
    looked_at = max(_START_POINTS, 8 * clusters)
    some = points[:: max(1, len(points) // looked_at)].contiguous()
    draws = uniform(key(Purpose.CLUSTERS, seed, torch.arange(clusters))).tolist()
    chosen = [int(draws[0] * len(some))]
    distances = _distances_to(some, chosen[0])
    for draw in draws[1:]:
        before = distances.cumsum(dim=0)
        if before[-1] == 0:
            raise ValueError(
                f"{clusters} clusters are too many: of {len(some):,} points only {len(chosen):,} differ"
            )
        chosen.append(int(torch.searchsorted(before, draw * float(before[-1]), right=True)))
        distances = torch.minimum(distances, _distances_to(some, chosen[-1]))
    return some[chosen]


def _distances_to(points: Tensor, number: int) -> Tensor:
    """Squared distance of every point to one of them: float64 (n,); exactly 0 to its equals."""
    one = points[number : number + 1]
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points, one, compute_mode=exact)[:, 0].double().square()


def _blocks(values: Tensor, width: int | None = None) -> tuple[Tensor, ...]:
    """Cut along the first dimension, so that a block of rows of `width` numbers stays small."""
    return values.split(max(1, _BLOCK // (width or values.shape[1])))
