"""CKA of 24 x 24 layers of a batch of 128, features of 73,728, beside the pairwise double loop.

Both are whole and take turns, in CPU seconds of one thread. The loop makes both Gram matrices of a pair
and its three HSICs, as the definition reads (Song et al., 2012, equation 5).
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from benchmarks._report import Figure
from mimray.analysis.cka import cka_matrix

LAYERS, BATCH, FEATURES = 24, 128, 73_728
TARGET, ATOL = 20.0, 1e-5


def figures(options: argparse.Namespace) -> dict[str, Figure]:
    """`options.rounds`: turns of both; the quickest of each counts."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(BATCH, FEATURES, generator=generator)
    mine, theirs = (_layers(common, generator) for _ in range(2))
    cka_matrix(mine[:1], theirs[:1])  # the first call sets the library up
    best = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(options.rounds):
        start = time.process_time()
        found = cka_matrix(mine, theirs)
        middle = time.process_time()
        expected = double_loop(mine, theirs)
        end = time.process_time()
        best["ours"] = min(best["ours"], middle - start)
        best["theirs"] = min(best["theirs"], end - middle)
    error = (found - expected).abs().max().item()
    return {
        "CKA, 24 x 24 layers": Figure(
            ratio=best["theirs"] / best["ours"], target=TARGET, **best, unit="CPU s"
        ),
        "CKA, difference": Figure(
            ratio=ATOL / max(error, 1e-12), target=1.0, ours=error, theirs=ATOL, unit="at most"
        ),
    }


def double_loop(mine: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """CKA pair by pair, of features (n, d) each -> float64 (len(mine), len(theirs))."""
    result = torch.zeros(len(mine), len(theirs), dtype=torch.float64)
    for i, x in enumerate(mine):
        for j, y in enumerate(theirs):
            k, l = x @ x.T, y @ y.T  # noqa: E741
            result[i, j] = hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt()
    return result


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """HSIC_1 of two Gram matrices (n, n)."""
    n = len(k)
    k = k.double().fill_diagonal_(0.0)
    l = l.double().fill_diagonal_(0.0)  # noqa: E741
    of_k, of_l = k.sum(dim=0), l.sum(dim=0)
    middle = of_k.sum() * of_l.sum() / ((n - 1) * (n - 2))
    return ((k * l).sum() + middle - 2 / (n - 2) * (of_k @ of_l)) / (n * (n - 3))


def _layers(common: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Features of layers that have ever less in common."""
    return [
        torch.randn(common.shape, generator=generator).mul_(n / LAYERS).add_(common)
        for n in range(1, LAYERS + 1)
    ]
