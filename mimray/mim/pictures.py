"""What a model saw and predicted, as one picture: original | masked | prediction | with visible."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mimray.mim.masks import to_pixels
from mimray.mim.model import MaskedImageModel
from mimray.mim.normalisation import denormalise

_GREY = 128
_GAP = 2  # pixels between pictures
_SIDE_BY_SIDE = 2  # samples in a row of the sheet
_TITLES = ("original", "masked", "prediction", "with visible")
_TITLE_HEIGHT = 14


@torch.no_grad()
def reconstruction_grid(model: MaskedImageModel, images: Tensor, hidden: Tensor) -> Tensor | None:
    """Run the model on normalised images (B, 3, H, W) and lay out four pictures for each.

    Original, masked (grey where hidden), prediction, prediction where hidden beside the visible
    pixels. Returns uint8 (height, width, 3) on the CPU, or None for a target that is no picture.
    Predictions in another target space are brought back to pixels by the target itself; where a
    pixel was visible the loss asks nothing of the prediction.
    """
    prediction = model.target.to_images(model(images, hidden).prediction, images)
    if prediction is None:
        return None
    pixels = to_pixels(hidden, model.patch)[:, None]
    original, predicted = denormalise(images), denormalise(prediction)
    masked = torch.where(pixels, torch.full_like(original, _GREY), original)
    together = torch.where(pixels, predicted, original)
    return _sheet(torch.stack([original, masked, predicted, together], dim=1).cpu())


def _sheet(pictures: Tensor) -> Tensor:
    """uint8 (samples, 4, 3, H, W) -> uint8 (height, width, 3): samples side by side, titles on top."""
    missing = -len(pictures) % _SIDE_BY_SIDE
    blank = torch.full((missing, *pictures.shape[1:]), 255, dtype=torch.uint8)
    padded = torch.nn.functional.pad(torch.cat([pictures, blank]), (_GAP, 0, _GAP, 0), value=255)
    samples, columns, channels, height, width = padded.shape
    rows = padded.view(samples // _SIDE_BY_SIDE, _SIDE_BY_SIDE * columns, channels, height, width)
    sheet = rows.permute(0, 3, 1, 4, 2).reshape(len(rows) * height, -1, channels)
    return torch.cat([_titles(sheet.shape[1], width), sheet])


def _titles(total: int, width: int) -> Tensor:
    """A white strip with the name of each column: uint8 (_TITLE_HEIGHT, total, 3)."""
    strip = Image.new("RGB", (total, _TITLE_HEIGHT), "white")
    pen = ImageDraw.Draw(strip)
    for column in range(total // width):
        title = _TITLES[column % len(_TITLES)]
        pen.text((column * width + _GAP, 1), title, fill="black", font_size=11)
    return torch.from_numpy(np.array(strip))
