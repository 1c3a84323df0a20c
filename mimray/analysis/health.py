"""Health of features: how many directions a layer uses, and how large its features are.

Effective rank (Roy and Vetterli, The Effective Rank: A Measure of Effective Dimensionality, 2007): exp of
the entropy of the singular values' shares. The matrix has a row a position of a picture, less the mean of
all: a direction that all share would hide the others. Its singular values are the roots of the scatter
matrix's eigenvalues, so a layer needs channels x channels numbers, whatever the number of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mimray.analysis.diagnostic import Row
from mimray.mim.encoders import Encoder
from mimray.mim.encoders.layers import layer_stages, show_layers

_CONSTANT = 1e-6  # of the channels' typical deviation: less is float32's rounding


@dataclass(frozen=True)
class Moments:
    """Of `count` rows: `mean` (C,), `scatter` (C, C) about it, and the sum of their `norms`; float64."""

    count: int
    mean: Tensor
    scatter: Tensor
    norms: float

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """Rows (n, C). In float32 the products' rounding would be directions of its own."""
        rows = rows.double()
        mean = rows.mean(dim=0)
        apart = rows - mean
        norms = rows.norm(dim=1).sum().item()
        return cls(len(rows), mean.cpu(), (apart.T @ apart).cpu(), norms)

    def __add__(self, other: Moments) -> Moments:
        """Of both together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += torch.outer(apart, apart) * (self.count * other.count / count)
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, scatter, self.norms + other.norms)


class HealthDiagnostic:
    """Satisfies `Diagnostic`: rank and norm of the features of every layer of `encoder`.

    Ranks are at most the number of positions seen, so a few hundred images are enough for a wide layer
    of a large map, and a last stage of few positions needs more.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.stages = layer_stages(encoder)
        self.moments: dict[str, Moments] = {}

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """One batch. Raises ValueError where features are not finite."""
        show_layers(self.encoder, images, list(self.stages), self._take)

    def merge(self, other: Self) -> None:
        """Add the sums of other images."""
        for name, moments in other.moments.items():
            self._add(name, moments)

    def rows(self) -> list[Row]:
        """One row a layer: `effective_rank`; `stable_rank`, all variance over the largest direction's;
        `norm`, the mean length of a position's features; `constant_channels`, a share."""
        return [
            {"layer": name, "index": index, "stage": stage} | _figures(self.moments[name])
            for index, (name, stage) in enumerate(self.stages.items(), start=1)
            if name in self.moments
        ]

    def conventions(self) -> dict[str, str]:
        """What a figure says in its margin."""
        told = {
            "rank": "of positions less their mean",
            "norm": "L2, a position's, mean over positions",
        }
        return told | ({"class token": "dropped"} if self.encoder.family == "vit" else {})

    def state(self) -> dict[str, Any]:
        """The sums of every layer."""
        return {name: vars(moments).copy() for name, moments in self.moments.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take sums that `state` gave. Raises ValueError for those of layers that the encoder has not."""
        for name in state:
            if name not in self.stages:
                raise ValueError(f"sums are of layer {name!r}, which the encoder has not")
        self.moments = {name: Moments(**sums) for name, sums in state.items()}

    def _take(self, name: str, features: Tensor) -> None:
        moments = Moments.of(features.permute(0, 2, 3, 1).flatten(0, 2))
        if not moments.scatter.isfinite().all():
            raise ValueError(f"features of {name} are not finite; has the checkpoint diverged?")
        self._add(name, moments)

    def _add(self, name: str, moments: Moments) -> None:
        self.moments[name] = self.moments[name] + moments if name in self.moments else moments


def _figures(moments: Moments) -> Row:
    variance = moments.scatter.diagonal()
    typical = variance.mean()
    constant = variance <= _CONSTANT**2 * typical
    return {
        "channels": len(moments.mean),
        "effective_rank": effective_rank(moments.scatter),
        "stable_rank": stable_rank(moments.scatter),
        "norm": moments.norms / moments.count,
        "constant_channels": constant.double().mean().item(),
    }


def effective_rank(scatter: Tensor) -> float:
    """Of the rows that have this scatter matrix (C, C): from 1 to C, or 0 where all rows are equal."""
    singular = _eigenvalues(scatter).sqrt()
    return (
        torch.special.entr(singular / singular.sum()).sum().exp().item() if len(singular) else 0.0
    )


def stable_rank(scatter: Tensor) -> float:
    """Sum of the eigenvalues over the largest: from 1 to C, or 0 where all rows are equal."""
    values = _eigenvalues(scatter)
    return (values.sum() / values.max()).item() if len(values) else 0.0


def _eigenvalues(scatter: Tensor) -> Tensor:
    """Those above 0: rounding leaves some a little below."""
    values = torch.linalg.eigvalsh(scatter)
    return values[values > 0]
