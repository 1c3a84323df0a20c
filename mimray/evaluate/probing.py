"""From frozen features and labels to scores, one row a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mimray.data.collections import MultiLabelSource
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.extraction import Extraction
from mimray.evaluate.layer_files import Features

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["linear", "knn"]
K = 20  # as DINO (Caron et al., 2021, section 4.1)
FORMAT = 1  # part of results' names: raise it where the same features would get other scores
Rows = list[dict[str, Any]]
"""One a layer: `layer`, `top1` and `mean_per_class`, or `map11` where pictures have several labels; of
linear probes `rate`, the chosen learning rate, and `held_out`, its score on a tenth of the training
pictures; of neighbours `k`."""


@dataclass(frozen=True)
class Labelled:
    """Features of a split, and the labels of their rows: int (n,), or (n, classes) of 1, -1 and 0."""

    features: Features
    labels: np.ndarray

    @classmethod
    def of(cls, extraction: Extraction) -> Labelled:
        """Features that are whole, with their source's labels."""
        features = extraction.join()
        return cls(features, labels_of(extraction.source)[features.rows])


def labels_of(source: Source) -> np.ndarray:
    """int64 (rows,), or int8 (rows, classes) of 1 (there), -1 (not there) and 0 (difficult)."""
    if isinstance(source, MultiLabelSource):
        given = source.multi_labels()  # which says 0 for not there and -1 for difficult
        return np.where(given == 1, 1, np.where(given == 0, -1, 0)).astype(np.int8)
    labels = source.labels()
    assert labels is not None, "check_pair asks for them"
    return labels


def score(
    kind: Kind, train: Extraction, test: Extraction, classes: int, seed: int, device: str
) -> Rows:
    """The scores of extractions whose features are whole; they are read from their files here.

    Raises UserError for features or labels that cannot be taken.
    """
    ask = linear if kind == "linear" else knn
    try:
        return ask(Labelled.of(train), Labelled.of(test), classes, seed, device)
    except ValueError as error:
        raise UserError(f"--from {train.checkpoint.weights}, {train.source.uri}: {error}") from None


def linear(train: Labelled, test: Labelled, classes: int, seed: int, device: str) -> Rows:
    """A linear probe of every layer; `seed` orders its pictures. Raises ValueError as `fit_probes`."""
    from mimray.downstream.linear import fit_probes

    labels = _tensor(train.labels)
    probes = fit_probes(train.features.layers, labels, classes, seed=seed, device=device)
    return [
        {
            "layer": name,
            **_scores(probe.predict(test.features.layers[name]), test.labels),
            "rate": probe.rate,
            "held_out": probe.held_out,
        }
        for name, probe in probes.items()
    ]


def knn(train: Labelled, test: Labelled, classes: int, seed: int, device: str) -> Rows:
    """The nearest neighbours of every layer; nothing is drawn, so `seed` changes nothing. Raises
    ValueError as `knn_scores`."""
    from mimray.downstream.knn import knn_scores

    labels, rows = _tensor(train.labels), []
    for name, features in train.features.layers.items():
        queries = test.features.layers[name]
        scores = knn_scores(features, labels, classes, queries, K, device=device)
        rows.append({"layer": name, **_scores(scores, test.labels), "k": min(K, len(features))})
    return rows


def chosen(rows: Rows) -> dict[str, Any]:
    """The row that stands for all: of linear probes the layer that is best on held-out training
    pictures, of neighbours the last layer. The test has no part in it."""
    if "held_out" in rows[0]:
        return max(rows, key=lambda row: row["held_out"])
    return rows[-1]


def _scores(scores: Tensor, labels: np.ndarray) -> dict[str, float]:
    from mimray.downstream.metrics import mean_average_precision, mean_per_class, top1

    truth = _tensor(labels)
    if truth.ndim == 2:
        return {"map11": mean_average_precision(scores, truth)}
    return {"top1": top1(scores, truth), "mean_per_class": mean_per_class(scores, truth)}


def _tensor(labels: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
