"""Pixels normalised patch by patch (MAE: He et al., CVPR 2022, section 3)."""

from __future__ import annotations

from torch import Tensor

from mimray.mim.targets.regression import Regression
from mimray.recipe import TargetSettings


class NormalisedPatches(Regression):
    """(x - mean) / sqrt(variance + 1e-6) in each patch of `target.patch` pixels a side.

    One mean and one unbiased variance for all of a patch's 3 * patch * patch values, not one for each
    colour: what is taken away is the patch's brightness and contrast, and its hue stays.
    """

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        super().__init__(settings)
        if image_size % settings.patch:
            raise ValueError(
                f"target.patch={settings.patch} does not divide the {image_size} px picture"
            )
        self.patch = settings.patch

    def forward(self, images: Tensor) -> Tensor:
        patches = to_patches(images, self.patch)
        return from_patches(standardise(patches), self.patch)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        mean, deviation = statistics(to_patches(images, self.patch))
        return from_patches(to_patches(prediction, self.patch) * deviation + mean, self.patch)


def to_patches(images: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, H/patch, W/patch, C * patch * patch), in the order colour, row, column."""
    blocks = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3)


def from_patches(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `to_patches`."""
    blocks = patches.unflatten(3, (-1, patch, patch))
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the values in the last dimension, which stays with size 1."""
    variance = patches.var(dim=-1, keepdim=True)
    return patches.mean(dim=-1, keepdim=True), (variance + 1e-6).sqrt()


def standardise(patches: Tensor) -> Tensor:
    """Values of mean 0 and deviation 1 in the last dimension; of a flat patch, all 0."""
    mean, deviation = statistics(patches)
    return (patches - mean) / deviation
