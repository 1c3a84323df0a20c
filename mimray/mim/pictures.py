"""What a model saw and predicted, as one picture: original | masked | prediction | with visible."""

from __future__ import annotations

import torch
from torch import Tensor

from mimray.mim.masks import to_pixels
from mimray.mim.model import MaskedImageModel, denormalise

_GREY = 128
_GAP = 2  # pixels between pictures


@torch.no_grad()
def reconstruction_grid(model: MaskedImageModel, images: Tensor, hidden: Tensor) -> Tensor:
    """Run the model on normalised images (B, 3, H, W) and lay out a row for each.

    Columns: original, masked (grey where hidden), prediction, prediction where hidden beside the
    visible pixels. Returns uint8 (height, width, 3) on the CPU. Predictions in another target space
    are brought back to pixels by the target itself.
    """
    prediction = model.target.to_images(model(images, hidden).prediction, images)
    pixels = to_pixels(hidden, model.patch)[:, None]
    original, predicted = denormalise(images), denormalise(prediction)
    masked = torch.where(pixels, torch.full_like(original, _GREY), original)
    together = torch.where(pixels, predicted, original)
    return _lay_out(torch.stack([original, masked, predicted, together], dim=1)).cpu()


def _lay_out(pictures: Tensor) -> Tensor:
    """uint8 (rows, columns, 3, H, W) -> uint8 (height, width, 3), white between."""
    rows, columns, channels, height, width = pictures.shape
    padded = torch.full(
        (rows, columns, channels, height + _GAP, width + _GAP), 255, dtype=torch.uint8
    )
    padded[..., _GAP:, _GAP:] = pictures.cpu()
    sheet = padded.permute(0, 3, 1, 4, 2).reshape(rows * (height + _GAP), -1, channels)
    return torch.nn.functional.pad(sheet, (0, 0, 0, _GAP, 0, _GAP), value=255)
