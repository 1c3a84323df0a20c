"""The nearest of some colours, as a class (as in iGPT: Chen et al., ICML 2020, 512 RGB clusters)."""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.mim.kmeans import nearest
from mimray.mim.normalisation import denormalise, normalise
from mimray.mim.targets.classification import Classification
from mimray.mim.targets.resolution import enlarge, pixels_a_position, shrink
from mimray.mim.targets.tensors import read_tensors
from mimray.recipe import TargetSettings

COLOURS = "colours"
"""Name of the centres in a file: float32 (clusters, 3), red, green and blue from 0 to 255."""


class Clusters(Classification):
    """Colours that `mimray data clusters` learned from the user's own pictures.

    They are part of the model's state, so a checkpoint goes on with the colours that it was trained
    on, whatever has become of `target.file`. At a lower `target.resolution` it is the colour nearest
    to the mean of the pixels under a position, rounded to 8 bits. A prediction's picture shows the
    expected colour.
    """

    colours: Tensor

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        colours = _read_colours(settings.file)
        super().__init__(len(colours), 1, pixels_a_position(settings, image_size))
        self.register_buffer("colours", colours)

    def forward(self, images: Tensor) -> Tensor:
        colours = denormalise(shrink(images, self.pixel)).float()
        batch, _, rows, columns = colours.shape
        numbers = nearest(colours.movedim(1, -1).flatten(0, 2), self.colours)
        return numbers.view(batch, 1, rows, columns)

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        shares = self.logits(prediction)[:, :, 0].softmax(dim=1)
        colours = torch.einsum("bkhw,kc->bchw", shares, self.colours)
        return enlarge(normalise(colours), self.pixel)


def _read_colours(file: str | None) -> Tensor:
    """The colours in a file: float32 (clusters, 3). Raises ValueError for what is none."""
    if file is None:
        raise ValueError(
            "target.kind=clusters needs target.file; `mimray data clusters URI --out FILE` writes it"
        )
    found = read_tensors(file).get(COLOURS)
    if found is None or found.ndim != 2 or found.shape[1] != 3 or not found.isfinite().all():
        raise ValueError(
            f"target.file={file} holds no colours; `mimray data clusters URI --out FILE`, without "
            "--patch, writes them"
        )
    return found.float()
