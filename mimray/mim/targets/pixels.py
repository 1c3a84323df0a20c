"""Raw pixels, normalised by ImageNet's mean and deviation (SimMIM, section 3.4)."""

from __future__ import annotations

from torch import Tensor


class Pixels:
    """The target is the input. Satisfies `Target`."""

    def __call__(self, images: Tensor) -> Tensor:
        return images

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        return prediction
