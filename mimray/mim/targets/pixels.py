"""Raw pixels, normalised by ImageNet's mean and deviation (SimMIM, section 3.4)."""

from __future__ import annotations

from torch import Tensor

from mimray.mim.targets.regression import Regression
from mimray.mim.targets.resolution import enlarge, pixels_a_position, shrink
from mimray.recipe import TargetSettings


class Pixels(Regression):
    """The picture itself, or a smaller one.

    At a lower `target.resolution` a position is the mean of the pixels under it, so it looks at no
    pixel outside of itself (the paper names no filter; one that reaches further would show the hidden
    what is visible beside it). The head then upsamples that much less.
    """

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        super().__init__(settings)
        self.pixel = pixels_a_position(settings, image_size)

    def forward(self, images: Tensor) -> Tensor:
        return shrink(images, self.pixel)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        return enlarge(prediction, self.pixel)
