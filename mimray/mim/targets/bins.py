"""The bin of each colour's value, as a class (SimMIM, section 3.4: channel-wise bins)."""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.mim.normalisation import denormalise, normalise
from mimray.mim.targets.classification import Classification
from mimray.mim.targets.resolution import enlarge, pixels_a_position, shrink
from mimray.recipe import TargetSettings


class Bins(Classification):
    """Red, green and blue, each in one of `target.bins` equal bins of its 8-bit value.

    At a lower `target.resolution` it is the bin of the mean of the pixels under a position, rounded
    to 8 bits. A prediction's picture shows the expected value, with the middle of each bin.
    """

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        super().__init__(settings.bins, 3, pixels_a_position(settings, image_size))

    def forward(self, images: Tensor) -> Tensor:
        return bin_of(denormalise(shrink(images, self.pixel)), self.classes)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        shares = self.logits(prediction).softmax(dim=1)
        values = torch.einsum("bkchw,k->bchw", shares, middles(self.classes, shares.device))
        return enlarge(normalise(values), self.pixel)


def bin_of(values: Tensor, bins: int) -> Tensor:
    """uint8 values to the number of their bin, int64."""
    return values.long() * bins // 256


def middles(bins: int, device: torch.device) -> Tensor:
    """The mean of the 8-bit values of each bin: float32 (bins,)."""
    first = (256 * torch.arange(bins + 1, device=device) + bins - 1) // bins
    return (first[:-1] + first[1:] - 1) / 2
