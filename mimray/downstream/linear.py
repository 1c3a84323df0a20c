"""Linear probes of many layers at once, on cached features.

Each layer is tried at several learning rates, and all of them together are one batched matrix product,
so that a sweep over the layers costs little beside the features' forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimray.downstream.metrics import mean_average_precision
from mimray.downstream.rows import Features, check_labels, float_rows
from mimray.hashing import Purpose, key

RATES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Peak learning rates times the channels: standardised features of C channels have a squared length of
C, so the same number is as bold a step at any width."""

MOMENTUM = 0.9
EPSILON = 1e-6  # of the batch norm, added to the variance
LEAST_STEPS = 400  # where an epoch is but a few batches
_BLOCK = 4096  # rows read at once outside of training

_HELD_OUT, _EPOCH = range(2)  # what rows are ordered for


@dataclass(frozen=True)
class Probe:
    """Standardise with the training features' `mean` and `scale` (C,), then `weight` (C, classes) and
    `bias` (classes,). `rate`: the learning rate chosen; `held_out`: its score on the held-out tenth."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    rate: float
    held_out: float

    def predict(self, features: Features) -> Tensor:
        """Features (n, C) -> logits (n, classes), float32, on the CPU."""
        blocks = []
        for start in range(0, len(features), _BLOCK):
            block = float_rows(features, slice(start, start + _BLOCK), self.mean.device)
            blocks.append(((block - self.mean) * self.scale) @ self.weight + self.bias)
        return torch.cat(blocks).cpu()


def fit_probes(
    features: Mapping[str, Features],
    labels: Tensor,
    classes: int,
    epochs: int = 30,
    batch: int = 256,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Probe]:
    """A probe of every layer's features (n, C); layers of one width are trained together.

    `labels`: int64 (n,), for softmax and top-1; or (n, classes) of 1, -1 and 0 (difficult, left out),
    for sigmoids and mean average precision. The rate that is best on a tenth of the rows, held out
    by a hash, is trained again on all of them.

    A batch norm without parameters goes before the linear layer, with the statistics of all training
    features, as in SwinTransformer/Feature-Distillation `main_linear.py`. It uses LARS for its batch of
    many thousands; one of some hundreds needs none, and SGD with momentum and a cosine schedule has
    only the rate to choose. There is no weight decay, and the weights start at 0.

    Raises ValueError where labels do not fit, there is one row, or features are not finite.
    """
    widths: dict[int, list[str]] = {}
    for name, array in features.items():
        check_labels(labels, len(array), classes)
        if len(array) < 2:
            raise ValueError(f"layer {name!r} has one row; a probe is chosen on rows held out")
        widths.setdefault(array.shape[1], []).append(name)
    probes: dict[str, Probe] = {}
    for names in widths.values():
        layers = _Layers({name: features[name] for name in names}, device)
        probes |= _Fit(layers, labels, classes, epochs, batch, seed).probes()
    return {name: probes[name] for name in features}


def _order(rows: int, *parts: int) -> np.ndarray:
    """The rows, shuffled by a hash of `parts`."""
    return key(Purpose.PROBE, *parts, np.arange(rows)).argsort(kind="stable")


class _Layers:
    """Features of layers that have one width, standardised: row numbers in, (layers, rows, C) out."""

    def __init__(self, features: Mapping[str, Features], device: torch.device | str) -> None:
        self.features, self.device = features, device
        self.rows, self.channels = map(int, next(iter(features.values())).shape)
        moments = [_moments(name, array, device) for name, array in features.items()]
        self.mean = torch.stack([mean for mean, _ in moments])[:, None]
        self.scale = torch.stack([scale for _, scale in moments])[:, None]

    def __call__(self, rows: np.ndarray) -> Tensor:
        block = torch.stack([float_rows(f, rows, self.device) for f in self.features.values()])
        return block.sub_(self.mean).mul_(self.scale)


def _moments(name: str, features: Features, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Mean, and 1 / deviation, of every channel: float32 (C,)."""
    first = float_rows(features, slice(0, 1), device).double()  # near the mean: no digits are lost
    total = squares = torch.zeros_like(first[0])
    for start in range(0, len(features), _BLOCK):
        block = float_rows(features, slice(start, start + _BLOCK), device).double() - first
        total, squares = total + block.sum(dim=0), squares + block.square().sum(dim=0)
    mean = total / len(features)
    variance = (squares / len(features) - mean.square()).clamp(min=0.0)
    if not variance.isfinite().all():
        raise ValueError(f"features of layer {name!r} are not finite; has its checkpoint diverged?")
    return (mean + first[0]).float(), (variance + EPSILON).rsqrt().float()


class _Fit:
    """Probes of layers that have one width: first at all rates on nine tenths, then at the best."""

    def __init__(
        self, layers: _Layers, labels: Tensor, classes: int, epochs: int, batch: int, seed: int
    ) -> None:
        self.layers, self.classes = layers, classes
        self.labels = labels.to(layers.device)
        self.epochs, self.batch, self.seed = epochs, batch, seed

    def probes(self) -> dict[str, Probe]:
        """The probe of each layer by its name."""
        count = len(self.layers.features)
        order = _order(self.layers.rows, self.seed, _HELD_OUT)
        held = np.sort(order[: max(1, len(order) // 10)])
        kept = np.sort(order[len(held) :])
        rates = torch.tensor(RATES, device=self.labels.device).expand(count, -1)
        scores = self._scores(*self._train(kept, rates), held)
        best = scores.argmax(dim=1).to(rates.device)
        chosen = rates.gather(1, best[:, None])
        weights, biases = self._train(np.arange(self.layers.rows), chosen)
        return {
            name: Probe(
                mean=self.layers.mean[i, 0],
                scale=self.layers.scale[i, 0],
                weight=weights[i],
                bias=biases[i, 0],
                rate=chosen[i].item() / self.layers.channels,
                held_out=scores[i].max().item(),
            )
            for i, name in enumerate(self.layers.features)
        }

    def _train(self, rows: np.ndarray, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Train on `rows` at each layer's `rates` (layers, R).

        Returns weights (layers, C, R * classes) and biases (layers, 1, R * classes).
        """
        count, tried = rates.shape
        outputs = tried * self.classes
        weights = torch.zeros(count, self.layers.channels, outputs, device=rates.device)
        biases = torch.zeros(count, 1, outputs, device=rates.device)
        weights_moved, biases_moved = torch.zeros_like(weights), torch.zeros_like(biases)
        each = rates[:, None].repeat_interleave(self.classes, dim=2) / self.layers.channels
        steps, batches = self._batches(rows)
        for step, block in enumerate(batches):
            x = self.layers(block)
            logits = torch.baddbmm(biases, x, weights).unflatten(2, (tried, self.classes))
            slope = _slope(logits, self.labels[block]).flatten(2)
            weights_moved.baddbmm_(x.transpose(1, 2), slope, beta=MOMENTUM)
            biases_moved.mul_(MOMENTUM).add_(slope.sum(dim=1, keepdim=True))
            cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            weights.addcmul_(weights_moved, each, value=-cosine)
            biases.addcmul_(biases_moved, each, value=-cosine)
        return weights, biases

    def _batches(self, rows: np.ndarray) -> tuple[int, Iterator[np.ndarray]]:
        """How many steps there are, and the rows of each: every epoch has an order of its own."""
        pieces = math.ceil(len(rows) / self.batch)
        epochs = max(self.epochs, math.ceil(LEAST_STEPS / pieces))

        def batches() -> Iterator[np.ndarray]:
            for epoch in range(epochs):
                order = _order(len(rows), self.seed, _EPOCH, epoch)
                yield from np.array_split(rows[order], pieces)

        return epochs * pieces, batches()

    def _scores(self, weights: Tensor, biases: Tensor, rows: np.ndarray) -> Tensor:
        """Top-1, or mean average precision, on `rows`: float64 (layers, R), on the CPU."""
        logits = (
            torch.baddbmm(biases, self.layers(block), weights)
            .unflatten(2, (-1, self.classes))
            .transpose(1, 2)  # (layers, R, b, classes)
            for block in np.array_split(rows, math.ceil(len(rows) / self.batch))
        )
        if self.labels.ndim == 1:  # of many classes not all logits would fit
            predicted = torch.cat([z.argmax(dim=3) for z in logits], dim=2)
            return (predicted == self.labels[rows]).double().mean(dim=2).cpu()
        together, labels = torch.cat(list(logits), dim=2), self.labels[rows]
        if not (labels > 0).any():
            return torch.zeros(together.shape[:2], dtype=torch.float64)
        scores = [[mean_average_precision(z, labels) for z in layer] for layer in together]
        return torch.tensor(scores, dtype=torch.float64)


def _slope(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss's gradient by the logits (layers, b, R, classes): the mean over rows of the softmax's
    cross-entropy, or of the sum over classes of the sigmoids'."""
    if labels.ndim == 1:
        label = labels[:, None] == torch.arange(logits.shape[3], device=labels.device)
        return (logits.softmax(dim=3) - label[:, None].float()) / len(labels)
    counts = (labels != 0)[:, None]
    return (logits.sigmoid() - (labels > 0)[:, None].float()) * counts / len(labels)
