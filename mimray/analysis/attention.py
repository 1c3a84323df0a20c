"""The attention of a ViT, Swin or SwinV2 in numbers, streamed over pictures."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor

from mimray.analysis.attention_counts import counted
from mimray.analysis.attention_layers import AttentionLayer, attention_layers
from mimray.analysis.attention_maps import Scores, run, watched
from mimray.analysis.diagnostic import Row
from mimray.analysis.statistics import distance_sums, divergence, product_sums
from mimray.mim.encoders import Encoder

ClassToken = Literal["drop", "keep"]

_PIECE = 1 << 19  # shares worked on at once on a CPU, to stay in its cache


class AttentionDiagnostic:
    """Averaged attention distance, entropy, and divergence between heads. Satisfies `Diagnostic`.

    `class_token`: `drop` a ViT's, so that every patch's shares over the patches sum to 1 again, or `keep`
    the shares as the encoder has them. Kept, it is a query and a key of entropy and divergence; it has no
    place, so its own row has no distance and what goes to it travels 0 pixels.

    Windowed attention is measured inside its windows, on the picture's pixels. Pairs that a shift masks
    have no share. Where the encoder pads its grid, padding is dropped as the class token is.

    Raises ValueError for an encoder without attention; `update` for one in training mode and for images
    of another size than the encoder's.
    """

    def __init__(self, encoder: Encoder, class_token: ClassToken = "drop") -> None:  # noqa: S107
        self.encoder, self.class_token = encoder, class_token
        device = next(encoder.parameters()).device
        self.layers = attention_layers(encoder)
        keep = class_token == "keep"  # noqa: S105
        self.counts = [counted(layer, keep, device) for layer in self.layers]
        self._clear()

    def _clear(self) -> None:
        heads = [layer.heads for layer in self.layers]
        self.pictures = 0
        self.distances = [torch.zeros(n, dtype=torch.float64) for n in heads]
        self.products = [torch.zeros(n, n, dtype=torch.float64) for n in heads]

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        with watched(self.layers, self._add):
            run(self.encoder, images)
        self.pictures += len(images)

    def _add(self, layer: AttentionLayer, scores: Scores) -> None:
        at = layer.index - 1
        count = self.counts[at]
        pictures = scores.queries.shape[1]
        if scores.queries.device.type == "cpu":
            pictures = max(1, _PIECE // (layer.heads * layer.attends.numel()))
        for piece in scores.split(pictures):
            logs = piece.log_probabilities(count.shut)
            shares = logs.exp()
            if count.queries is not None:
                shares *= count.queries
            self.products[at] += product_sums(shares, logs).cpu()
            self.distances[at] += distance_sums(shares, count.distances).cpu()

    def rows(self) -> list[Row]:
        """`distance_px`, `entropy_nats`, `uniform_nats` (the entropy of equal shares), `kl_mean` and
        `kl_symmetric_mean`: a head against the layer's others, KL(head || other) and the mean of both
        directions; None in a layer of one head. Raises ValueError where no picture was seen."""
        ordered, symmetric = self.divergence(), self.divergence(symmetric=True)
        rows: list[Row] = []
        for at, (layer, count) in enumerate(zip(self.layers, self.counts, strict=True)):
            distance = self.distances[at] / (self.pictures * count.placed)
            entropy = -self.products[at].diagonal() / (self.pictures * count.count)
            rows += [
                {
                    "layer": layer.name,
                    "index": layer.index,
                    "stage": layer.stage,
                    "head": head + 1,
                    "distance_px": distance[head].item(),
                    "entropy_nats": entropy[head].item(),
                    "uniform_nats": count.uniform_nats,
                    "kl_mean": _mean_of_others(ordered[at][head]),
                    "kl_symmetric_mean": _mean_of_others(symmetric[at][head]),
                }
                for head in range(layer.heads)
            ]
        return rows

    def divergence(self, symmetric: bool = False) -> list[Tensor]:
        """Of every layer, float64 (heads, heads) in nats: row a, column b is KL(a || b), mean over queries
        and pictures, or the mean of that and KL(b || a). Raises ValueError as `rows`."""
        if not self.pictures:
            raise ValueError("no picture was seen; call update with some before")
        found = [
            divergence(products) / (self.pictures * count.count)
            for products, count in zip(self.products, self.counts, strict=True)
        ]
        return [(d + d.T) / 2 for d in found] if symmetric else found

    def conventions(self) -> dict[str, str]:
        told = {
            "distance": "Euclidean, pixels of the picture; mean over queries and pictures",
            "entropy": "nats; its maximum is that of equal shares over the keys that a query attends to",
            "divergence": "KL(head || other), nats, mean over queries and pictures",
            "symmetric": "the mean of both directions",
        }
        if any(layer.class_token for layer in self.layers):
            told["class token"] = {
                "drop": "dropped, the other shares sum to 1 again",
                "keep": "kept; what goes to it travels 0 px, its own row has no distance",
            }[self.class_token]
            return told
        told["windows"] = "inside each window; pairs that the shift masks have no share"
        if not all(layer.placed.all() for layer in self.layers):
            told["padding"] = "dropped, the other shares sum to 1 again"
        return told

    def merge(self, other: Self) -> None:
        """Raises ValueError where the other's layers or class token are not the same."""
        self._add_state(other.state())

    def state(self) -> dict[str, Any]:
        return {
            "class_token": self.class_token,
            "pictures": self.pictures,
            "distances": [sums.clone() for sums in self.distances],
            "products": [sums.clone() for sums in self.products],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises ValueError as `merge`."""
        self._check(state)
        self._clear()
        self._add_state(state)

    def _add_state(self, state: dict[str, Any]) -> None:
        self._check(state)
        self.pictures += state["pictures"]
        for own, more in (
            (self.distances, state["distances"]),
            (self.products, state["products"]),
        ):
            for sums, others in zip(own, more, strict=True):
                sums += others

    def _check(self, state: dict[str, Any]) -> None:
        heads = [len(sums) for sums in state["products"]]
        if heads != [layer.heads for layer in self.layers]:
            raise ValueError(
                "these are the sums of another encoder: its layers or heads are others"
            )
        if state["class_token"] != self.class_token:
            raise ValueError(
                f"these are sums with class_token={state['class_token']!r}, not {self.class_token!r}"
            )


def _mean_of_others(divergences: Tensor) -> float | None:
    """Over all heads but the own one, whose divergence is 0."""
    others = len(divergences) - 1
    return divergences.sum().item() / others if others else None
