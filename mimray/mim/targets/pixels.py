"""Raw pixels, normalised by ImageNet's mean and deviation (SimMIM, section 3.4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from mimray.mim.targets.regression import Regression
from mimray.recipe import TargetSettings


class Pixels(Regression):
    """The picture itself, or a smaller one.

    At a lower `target.resolution` a position is the mean of the pixels under it (an area filter: the
    paper names none, and this one looks at no pixel outside of the position).
    """

    def __init__(self, settings: TargetSettings, pixel: int) -> None:
        super().__init__(settings)
        self.pixel = pixel

    def forward(self, images: Tensor) -> Tensor:
        return images if self.pixel == 1 else avg_pool2d(images, self.pixel)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        return interpolate(prediction, scale_factor=self.pixel) if self.pixel > 1 else prediction
