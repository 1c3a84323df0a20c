"""What attention is like, head by head: how far it reaches, how spread it is, how much heads differ.

Source: Revealing the Dark Secrets of MIM (arXiv 2205.13543), section 3; distance after An Image is Worth
16x16 Words (arXiv 2010.11929), appendix D.7. Sums over keys are float32, those over pictures float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SPAN = 1 << 12  # numbers that are summed in float32: a window's, or else a query's


def attention_distance(probabilities: Tensor, positions: Tensor) -> Tensor:
    """Averaged attention distance: sum over keys of share x Euclidean distance, mean over all else.

    `probabilities`: (B, heads, N, N), a query's shares side by side; `positions`: (N, 2), the tokens'.
    Returns float64 (heads,), in the units of the positions.
    """
    queries = probabilities.shape[0] * probabilities.shape[2]
    shares = probabilities.transpose(0, 1)[:, :, None]
    return distance_sums(shares, pair_distances(positions[None])) / queries


def attention_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of a query's shares, mean over queries and pictures.

    `probabilities`: (B, heads, N, N). Returns float64 (heads,), in nats; log N where all are equal.
    """
    return torch.special.entr(probabilities).sum(-1).mean(dim=(0, 2), dtype=torch.float64)


def head_divergence(log_probabilities: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the heads' shares, mean over queries and pictures.

    `log_probabilities`: (B, heads, N, N), natural logarithms, best straight from a log-softmax; -inf
    where a share is 0. Returns float64 (heads, heads), in nats: row a, column b is KL(a || b), inf where
    b has no share of what a has.
    """
    heads = log_probabilities.shape[1]
    sums = torch.zeros(heads, heads, dtype=torch.float64, device=log_probabilities.device)
    for logs in log_probabilities:  # one picture's stay in a CPU's cache
        shares = logs.exp()
        products = product_sums(shares, logs)
        if not products.isfinite().all():  # 0 x -inf; only then does it pay to look where
            shut = logs.isneginf()
            lost = product_sums(shares, shut.to(shares.dtype))
            products = product_sums(shares, logs.masked_fill(shut, 0.0))
            products[lost > 0] = -torch.inf
        sums += products
    return divergence(sums) / (len(log_probabilities) * log_probabilities.shape[2])


def pair_distances(positions: Tensor) -> Tensor:
    """Of every two tokens of a window, 0 where either has no place (nan): (W, N, 2) -> (W, N, N)."""
    apart = positions[:, :, None] - positions[:, None, :]
    return torch.linalg.vector_norm(apart, dim=-1).nan_to_num(0.0)


def distance_sums(probabilities: Tensor, distances: Tensor) -> Tensor:
    """Sum over pictures, windows, queries and keys of share x distance.

    (heads, pictures, windows, N, N) and (windows, N, N) -> float64 (heads,).
    """
    reach = (probabilities.sum(dim=1) * distances).sum(dim=-1)
    return reach.flatten(1).sum(dim=1, dtype=torch.float64)


def product_sums(probabilities: Tensor, logs: Tensor) -> Tensor:
    """Sum over pictures, queries and keys of head a's share x head b's logarithm.

    Both (heads, ..., N, N) -> float64 (heads, heads). The diagonal is the negative entropy of a, and the
    divergence of a from b is what b's column lacks to it: all pairs of heads are one matrix product.
    """
    size = probabilities.shape[-1]
    span = size * size if size * size <= _SPAN else size
    a, b = (x.flatten(1).unflatten(1, (-1, span)).transpose(0, 1) for x in (probabilities, logs))
    return torch.bmm(a, b.transpose(1, 2)).sum(dim=0, dtype=torch.float64)


def divergence(products: Tensor) -> Tensor:
    """Summed KL(a || b) from `product_sums`, (heads, heads) -> the same; never below 0, whatever the
    rounding."""
    return (products.diagonal()[:, None] - products).clamp(min=0.0)
