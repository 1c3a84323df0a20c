"""Histograms of oriented gradients (MaskFeat: Wei et al., CVPR 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from mimray.mim.targets.regression import Regression
from mimray.recipe import TargetSettings

ORIENTATIONS = 9
CELL = 8  # pixels


class Hog(Regression):
    """Of each colour and each cell of 8 px, 9 orientations from 0 to 180 degrees, of L2 norm 1.

    The gradient is taken by [-1, 0, 1] down and across, the picture reflected at its border; its
    magnitude counts for the one orientation that it falls into. (MaskFeat's released code also smooths
    the gradient across its direction, and weighs a cell's pixels by a Gaussian.) Channels lie in the
    order colour, orientation. The scale of a colour divides out, so normalised pictures serve as well
    as any. MaskFeat compares by l2. A histogram is no picture.
    """

    outputs = 3 * ORIENTATIONS
    values = 3 * ORIENTATIONS
    pixel = CELL

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        super().__init__(settings)
        if image_size % CELL:
            raise ValueError(
                f"target.kind=hog: its cells of {CELL} px do not divide the {image_size} px picture"
            )

    def forward(self, images: Tensor) -> Tensor:
        magnitude, orientation = gradients(images)
        cells = [
            avg_pool2d(magnitude * (orientation == number), CELL) for number in range(ORIENTATIONS)
        ]
        return normalize(torch.stack(cells, dim=2), dim=2).flatten(1, 2)

    def to_images(self, prediction: Tensor, images: Tensor) -> None:
        return None


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude, and number of the orientation (0 for 0 to 20 degrees), of the shape of `images`."""
    framed = pad(images, (1, 1, 1, 1), mode="reflect")
    across = framed[..., 1:-1, 2:] - framed[..., 1:-1, :-2]
    down = framed[..., 2:, 1:-1] - framed[..., :-2, 1:-1]
    angle = torch.atan2(down, across).remainder(math.pi)
    number = (angle * (ORIENTATIONS / math.pi)).long()
    return torch.hypot(across, down), number.clamp(max=ORIENTATIONS - 1)  # rounded up to 180
