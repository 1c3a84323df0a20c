"""Effective receptive field: which pixels a layer's central position answers to, and how far they lie.

Source: Luo et al., Understanding the Effective Receptive Field in Deep CNNs, 2016; in the form of RepLKNet
(Ding et al., Scaling Up Your Kernels to 31x31, 2022; DingXiaoH/RepLKNet-pytorch `erf/`): the central
position's positive features, summed over channels, and their gradient at every pixel. A LayerNorm makes
the sum of all features almost a constant, and its gradient says nothing; that of the positive ones does.

There the gradient's positive part is taken, and squares hold shares of the logarithm of 1 + the map, which
depends on the gradient's scale. Here it is the absolute value, and shares of the map itself.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor

from mimray.analysis.diagnostic import Row
from mimray.mim.encoders import Encoder
from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.layers import layer_stages, show_layers, stage_ends

SHARES = (20, 30, 50, 99)
"""Percent of the map that RepLKNet has squares for (`erf/analyze_erf.py`)."""

_TOGETHER = 4  # pictures whose graph is held: one of a ViT-B at 224 px takes 200 to 300 MB each


class ReceptiveFieldDiagnostic:
    """Satisfies `Diagnostic`: the effective receptive field after every stage; a ViT's are quarters of its
    depth.

    Of an even number of rows the central one is the lower of the two, and of columns the right one, as
    in RepLKNet's code; distances are from the middle of that position.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.stages = layer_stages(encoder)
        self.layers = stage_ends(encoder)
        self.images = 0
        self.sums: dict[str, Tensor] = {}

    def update(self, images: Tensor) -> None:
        """One batch; parameters and their gradients are left as they are.

        Raises ValueError for images of another size than those before, and for gradients that are not
        finite.
        """
        _check_size(self.sums, tuple(images.shape[-2:]))
        for piece in images.split(_TOGETHER):
            self._look(piece)

    def _look(self, images: Tensor) -> None:
        pixels = images.detach().requires_grad_()
        centres: dict[str, Tensor] = {}

        def take(name: str, features: Tensor) -> None:
            row, column = (side // 2 for side in features.shape[-2:])
            centres[name] = features[:, :, row, column].relu().sum()

        with torch.enable_grad():
            show_layers(self.encoder, pixels, self.layers, take)
        for name, centre in centres.items():
            (gradient,) = torch.autograd.grad(centre, pixels, retain_graph=True)
            if not gradient.isfinite().all():
                raise ValueError(
                    f"gradients of {name} are not finite; has the checkpoint diverged?"
                )
            self._add(name, gradient.abs().sum(dim=(0, 1), dtype=torch.float64).cpu())
        self.images += len(images)

    def merge(self, other: Self) -> None:
        """Add the sums of other images. Raises ValueError for those of another size."""
        for name, total in other.sums.items():
            _check_size(self.sums, tuple(total.shape))
            self._add(name, total)
        self.images += other.images

    def map(self) -> dict[str, Tensor]:
        """Every layer's share of each pixel, float64 (H, W), which sum to 1; nan where no pixel counts."""
        return {name: total / total.sum() for name, total in self.sums.items()}

    def rows(self) -> list[Row]:
        """One row a layer: `centre_row_px` and `centre_column_px`, the middle of its central position, and
        what `extent` gives about it: `radius_px`, `side_20_px`..., `area_20`..."""
        index = {name: number for number, name in enumerate(self.stages, start=1)}
        found = []
        for name, shares in self.map().items():
            row, column = self._centre(name, shares)
            found.append(
                {
                    "layer": name,
                    "index": index[name],
                    "stage": self.stages[name],
                    "centre_row_px": row,
                    "centre_column_px": column,
                    **extent(shares, (row, column)),
                }
            )
        return found

    def conventions(self) -> dict[str, str]:
        """What a figure says in its margin."""
        return {
            "map": "absolute gradient of the central position's positive features, summed over channels",
            "images": str(self.images),
        }

    def state(self) -> dict[str, Any]:
        """The sums of every layer."""
        return {"images": self.images, "sums": {n: total.clone() for n, total in self.sums.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Take sums that `state` gave. Raises ValueError for those of other layers."""
        for name in state["sums"]:
            if name not in self.layers:
                raise ValueError(f"sums are of layer {name!r}, which is not one of {self.layers}")
        self.images = state["images"]
        self.sums = {name: total.clone() for name, total in state["sums"].items()}

    def _add(self, name: str, total: Tensor) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total.clone()

    def _centre(self, name: str, shares: Tensor) -> tuple[float, float]:
        """Row and column, in pixels, of the middle of what the layer's central position covers.

        Convolutions that halve a grid with an odd kernel, padded, put position n about pixel n * stride;
        patches and their merging put it about the middle of its cell.
        """
        stride = self.encoder.strides[self.stages[name] - 1]
        padded = isinstance(self.encoder, ConvEncoder) and self.encoder.stem_overlaps
        middle = 0.5 if padded else 0.5 * stride
        row, column = (side // stride // 2 * stride + middle for side in shares.shape)
        return row, column


def extent(shares: Tensor, centre: tuple[float, float]) -> dict[str, float]:
    """How far a map (H, W) that sums to 1 reaches from `centre` (row, column), in pixels of its grid.

    `radius_px`: of the circle that holds the centres of pixels with half of the map. `side_N_px`: of
    the smallest square about the centre that holds N %; `area_N`: the share of the map's pixels in it,
    RepLKNet's area ratio. A square that goes over the border holds what is on this side of it. All are
    nan for a map of nan.
    """
    rows, columns = (
        (torch.arange(side, dtype=torch.float64) + 0.5 - middle).abs()
        for side, middle in zip(shares.shape, centre, strict=True)
    )
    radius = _least(torch.hypot(rows[:, None], columns), shares, 0.5)
    half_sides = torch.maximum(rows[:, None], columns) + 0.5  # of squares that hold whole pixels
    found = {"radius_px": radius}
    for percent in SHARES:
        half = _least(half_sides, shares, percent / 100)
        found[f"side_{percent}_px"] = 2 * half
        covered = (half_sides <= half).double().mean().item()
        found[f"area_{percent}"] = math.nan if math.isnan(half) else covered
    return found


def _least(distance: Tensor, shares: Tensor, share: float) -> float:
    """The smallest distance within which lies at least this share."""
    ordered, order = distance.flatten().sort()
    within = shares.flatten()[order].cumsum(dim=0)
    if not within[-1] > 0:
        return math.nan
    place = int((within < share * within[-1]).sum())
    return ordered[min(place, len(ordered) - 1)].item()


def _check_size(sums: dict[str, Tensor], size: tuple[int, ...]) -> None:
    for total in sums.values():
        if tuple(total.shape) != size:
            raise ValueError(
                f"images of {size} after others of {tuple(total.shape)}; take one size"
            )
