"""Linear CKA: how alike two layers' representations of the same pictures are, over minibatches.

Source: Kornblith et al., Similarity of Neural Network Representations Revisited, 2019; over minibatches
Nguyen et al., Do Wide and Deep Networks Learn the Same Things?, 2021.

HSIC of two layers is the inner product of their centred Gram matrices. Each layer's is made once and
flattened, and all pairs of layers are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from mimray.analysis.diagnostic import Row
from mimray.mim.encoders import Encoder
from mimray.mim.encoders.layers import layer_names, layer_stages, show_layers

Estimator = Literal["unbiased", "biased"]

LEAST = 4
"""Pictures of the smallest batch: the unbiased estimator divides by n - 3."""

_CONSTANT = 1e-6  # of the features' length: a deviation of less is float32's rounding
_COLUMNS, _ROWS = 1536, 32  # of one product, to stay in a CPU's cache


def cka(x: Tensor, y: Tensor, estimator: Estimator = "unbiased") -> float:
    """CKA of two representations (n, ...) of the same n pictures; what follows n is flattened.

    1 where they are alike up to a rotation and a scale. `unbiased`: near 0, and on either side of it,
    where they are independent; `biased`: then still large where there are more features than
    pictures. nan where a representation is the same for all pictures.

    Raises ValueError for fewer than 4 pictures, different ones, or features that are not finite.
    """
    return cka_matrix([x], [y], estimator).item()


def cka_matrix(
    xs: Sequence[Tensor], ys: Sequence[Tensor], estimator: Estimator = "unbiased"
) -> Tensor:
    """`cka` of each of `xs` with each of `ys`: float64 (len(xs), len(ys)), on the CPU."""
    _check_estimator(estimator)
    if len({len(features) for features in (*xs, *ys)}) > 1:
        raise ValueError("CKA compares representations of the same pictures, as many in each")
    rows = torch.stack([centred_gram(features, estimator) for features in xs])
    columns = torch.stack([centred_gram(features, estimator) for features in ys])
    return _normalised(rows @ columns.T, rows.square().sum(1), columns.square().sum(1))


@torch.no_grad()
def centred_gram(features: Tensor, estimator: Estimator = "unbiased") -> Tensor:
    """Features (n, ...) -> float64 (n * n,), on the CPU; the inner product of two of them is their HSIC.

    `unbiased`: HSIC_1 of Song et al., Feature Selection via Dependence Maximization, 2012, as the inner
    product of U-centred matrices, whose diagonals are zero (Szekely and Rizzo, Partial Distance
    Correlation with Methods for Dissimilarities, 2014). `biased`: tr(KHLH) / (n - 1)**2. Zeros where the
    features are the same for all pictures but for float32's rounding.
    """
    n = len(features)
    if n < LEAST:
        raise ValueError(f"CKA of {n} images; the smallest batch is {LEAST}")
    flat = features.flatten(1)
    gram = _gram(flat).cpu()
    if not gram.isfinite().all():
        raise ValueError("features are not finite; has the checkpoint that gave them diverged?")
    if gram.diagonal().max() <= (_CONSTANT * flat[0].double().norm().item()) ** 2:
        return gram.new_zeros(n * n)
    if estimator == "biased":
        mean = gram.mean(dim=0)
        return ((gram - mean - mean[:, None] + mean.mean()) / (n - 1)).flatten()
    gram.fill_diagonal_(0.0)
    mean = gram.sum(dim=0) / (n - 2)
    gram += mean.sum() / (n - 1) - mean - mean[:, None]
    return gram.fill_diagonal_(0.0).flatten() / (n * (n - 3)) ** 0.5


class CkaDiagnostic:
    """Satisfies `Diagnostic`: CKA of all layers of `encoder` with all of `other`, or with each other.

    A batch is the unit: HSIC is estimated within each and averaged, a batch counting as its pictures,
    and then normalised. Shards that are to give what one pass gives consist of its whole batches.
    `other` may be another kind of encoder; it takes the same pictures, so it is built for their size.
    """

    def __init__(
        self,
        encoder: Encoder,
        other: Encoder | None = None,
        estimator: Estimator = "unbiased",
    ) -> None:
        _check_estimator(estimator)
        self.encoder, self.other, self.estimator = encoder, other, estimator
        self.stages = layer_stages(encoder)
        self.other_stages = layer_stages(other) if other is not None else self.stages
        self.images = self.batch = 0
        rows, columns = len(self.stages), len(self.other_stages)
        self.hsic = torch.zeros(rows, columns, dtype=torch.float64)
        self.own = torch.zeros(rows, dtype=torch.float64)
        self.others = torch.zeros(columns, dtype=torch.float64)

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """One batch. Raises ValueError for fewer than 4 images."""
        if len(images) < LEAST:  # before a forward pass
            raise ValueError(f"CKA of {len(images)} images; the smallest batch is {LEAST}")
        rows = self._grams(self.encoder, images)
        columns = self._grams(self.other, images) if self.other is not None else rows
        n = len(images)
        self.images, self.batch = self.images + n, max(self.batch, n)
        self.hsic += n * (rows @ columns.T)
        self.own += n * rows.square().sum(dim=1)
        self.others += n * columns.square().sum(dim=1)

    def merge(self, other: Self) -> None:
        """Add the sums of other batches."""
        self._check(other.state())
        self.images, self.batch = self.images + other.images, max(self.batch, other.batch)
        self.hsic += other.hsic
        self.own += other.own
        self.others += other.others

    def matrix(self) -> Tensor:
        """CKA, float64 (layers, layers of the other); nan for a layer that is the same for all images."""
        return _normalised(self.hsic, self.own, self.others)

    def rows(self) -> list[Row]:
        """One row a pair of layers; `other...` is the second's."""
        found = self.matrix().tolist()
        return [
            {
                "layer": layer,
                "index": i,
                "stage": self.stages[layer],
                "other": other,
                "other_index": j,
                "other_stage": self.other_stages[other],
                "cka": found[i - 1][j - 1],
            }
            for i, layer in enumerate(self.stages, start=1)
            for j, other in enumerate(self.other_stages, start=1)
        ]

    def conventions(self) -> dict[str, str]:
        """What a figure says in its margin."""
        families = {one.family for one in (self.encoder, self.other) if one is not None}
        return {
            "CKA": f"linear, {self.estimator} HSIC of batches of {self.batch}",
            "features": "all positions, flattened",
            **({"class token": "dropped"} if "vit" in families else {}),
            "images": str(self.images),
        }

    def state(self) -> dict[str, Any]:
        """The sums, and what they are of."""
        return self._what() | {
            "images": self.images,
            "batch": self.batch,
            "hsic": self.hsic.clone(),
            "own": self.own.clone(),
            "others": self.others.clone(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take sums that `state` gave. Raises ValueError for those of other layers or conventions."""
        self._check(state)
        self.images, self.batch = state["images"], state["batch"]
        self.hsic, self.own, self.others = (state[n].clone() for n in ("hsic", "own", "others"))

    def _what(self) -> dict[str, Any]:
        return {
            "layers": list(self.stages),
            "other_layers": list(self.other_stages),
            "estimator": self.estimator,
        }

    def _check(self, state: dict[str, Any]) -> None:
        for name, value in self._what().items():
            if state[name] != value:
                raise ValueError(f"CKA's sums are of {name} {state[name]}, not {value}")

    def _grams(self, encoder: Encoder, images: Tensor) -> Tensor:
        """float64 (layers, n * n)."""
        found: dict[str, Tensor] = {}

        def take(name: str, features: Tensor) -> None:
            # A map's positions come first, as most encoders have them in memory: nothing is copied.
            found[name] = centred_gram(features.permute(0, 2, 3, 1), self.estimator)

        names = layer_names(encoder)
        show_layers(encoder, images, names, take)
        return torch.stack([found[name] for name in names])


def _gram(features: Tensor) -> Tensor:
    """Inner products of all rows of (n, d) less their mean, float64 (n, n).

    HSIC is the same without the mean, and float32 keeps more digits of what is left. Columns come in
    pieces, whose products are added in float64; of what is symmetric little more than half is made.
    """
    n = len(features)
    gram = torch.zeros(n, n, dtype=torch.float64, device=features.device)
    share = torch.full((n,), 1 / n, device=features.device)
    space = torch.empty(n, _COLUMNS, device=features.device)
    for columns in features.split(_COLUMNS, dim=1):
        piece = columns.float()
        piece = torch.sub(piece, share @ piece, out=space[:, : piece.shape[1]])
        for start in range(0, n, _ROWS):
            end = start + _ROWS
            gram[start:end, :end] += piece[start:end] @ piece[:end].T
    return gram.tril() + gram.tril(-1).T


def _normalised(hsic: Tensor, own: Tensor, others: Tensor) -> Tensor:
    return hsic / (own.sqrt()[:, None] * others.sqrt())


def _check_estimator(estimator: str) -> None:
    if estimator not in get_args(Estimator):
        raise ValueError(f"CKA's estimator {estimator!r} is not known; unbiased and biased are")
