"""What every target offers: what is predicted at hidden places, and how far a prediction is off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Target(nn.Module, ABC):
    """From normalised images to what is predicted, on a grid of `pixel` pixels a position.

    `outputs`: channels of the head's prediction; `values`: numbers at one position whose errors are
    summed, over which the loss is a mean; `fills`: whether a picture's own visible part is a
    prediction to compare with (regression), or not (classification).
    """

    outputs: int = 3
    pixel: int = 1
    values: int = 3
    fills: ClassVar[bool] = True

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> target, its last dimensions (H/pixel, W/pixel)."""

    @abstractmethod
    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, outputs, h, w) against the target -> (B, h, w), summed over a position's values."""

    @abstractmethod
    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor | None:
        """A prediction as normalised images (B, 3, H, W), or None where it is no picture.

        Statistics that the target took away come from `images`.
        """

    def region(self, hidden: Tensor, patch: int) -> Tensor:
        """From the patch grid to the target's: bool (B, H/patch, W/patch) -> (B, H/pixel, W/pixel).

        A position that is larger than a patch counts where everything under it is hidden.
        """
        fine = hidden.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)
        if self.pixel == 1:
            return fine
        rows, columns = (n // self.pixel for n in fine.shape[-2:])
        blocks = fine.unflatten(-1, (columns, self.pixel)).unflatten(-3, (rows, self.pixel))
        return torch.all(blocks.flatten(-1), dim=-1).all(dim=-2)
