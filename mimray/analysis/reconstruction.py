"""What a model makes of masked pictures, as pictures again, and what its prediction is worth.

A prediction stands in its target's space. The target itself brings it back to pixels, with the statistics
that it took away from the very picture; where a pixel was visible, the loss asks nothing of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimray.mim.masked_losses import fills, skill
from mimray.mim.masks import average_distance, to_pixels
from mimray.mim.model import MaskedImageModel
from mimray.mim.normalisation import denormalise
from mimray.recipe import TargetSettings

_GREY = 128


@dataclass(frozen=True)
class Reconstruction:
    """One picture: pictures are uint8 (H, W, 3).

    `masked`: grey where hidden; `prediction`: everywhere; `together`: the prediction where hidden beside
    the visible pixels; `loss`: the target's error, the mean over its hidden values; `hidden_ratio`: share
    of pixels; `average_distance`: AvgDist, pixels. `fills`: of each fill the picture, as
    `together`, and its loss over the same values; empty for a target that is classified.
    """

    original: np.ndarray
    masked: np.ndarray
    prediction: np.ndarray
    together: np.ndarray
    loss: float
    hidden_ratio: float
    average_distance: float
    fills: dict[str, tuple[np.ndarray, float]]

    @property
    def skill(self) -> float | None:
        """1 - loss / the loss of the nearest-pixel fill; None for a target that is classified, and for a
        picture of one colour."""
        if not self.fills:
            return None
        worth = skill(self.loss, self.fills["nearest"][1])
        return None if math.isnan(worth) else worth


@torch.no_grad()
def reconstruct(
    model: MaskedImageModel, images: Tensor, hidden: Tensor
) -> list[Reconstruction] | None:
    """Predict what is hidden, and put it back into the pictures.

    `model`: in evaluation mode; `images`: float32 normalised (B, 3, H, W); `hidden`: bool
    (B, H/patch, W/patch). None for a target that is no picture. The same loss, over the same values, as
    a run's validation. Raises ValueError where the prediction is not finite.
    """
    out = model(images, hidden)
    if not out.prediction.isfinite().all():
        raise ValueError("what it predicts is not finite; has its run diverged?")
    prediction = model.target.to_images(out.prediction, images)
    if prediction is None:
        return None
    original, pixels = denormalise(images), to_pixels(hidden, model.patch)[:, None]
    masked = _arrays(torch.where(pixels, _GREY, original))

    def together(predicted: Tensor) -> list[np.ndarray]:
        return _arrays(torch.where(pixels, denormalise(predicted), original))

    shown_fills: dict[str, tuple[list[np.ndarray], list[float]]] = {}
    for name, filled, error in fills(model, images, hidden):
        picture = model.target.to_images(filled, images)
        assert picture is not None, "a prediction is a picture, and this is one"
        shown_fills[name] = together(picture), (error / out.values).tolist()
    originals, predictions = _arrays(original), _arrays(denormalise(prediction))
    put_together, losses = together(prediction), (out.error / out.values).tolist()
    ratios = hidden.double().mean(dim=(1, 2)).tolist()
    distances = average_distance(hidden, model.patch).tolist()
    return [
        Reconstruction(
            original=originals[place],
            masked=masked[place],
            prediction=predictions[place],
            together=put_together[place],
            loss=losses[place],
            hidden_ratio=ratios[place],
            average_distance=distances[place],
            fills={
                name: (shown[place], loss[place]) for name, (shown, loss) in shown_fills.items()
            },
        )
        for place in range(len(images))
    ]


def _arrays(images: Tensor) -> list[np.ndarray]:
    """uint8 (B, 3, H, W) -> B times (H, W, 3), on the CPU."""
    return list(images.permute(0, 2, 3, 1).cpu().numpy())


def how_drawn(target: TargetSettings) -> str:
    """How a prediction of a target became a picture, in a sentence, or "" where it is one."""
    put_back = "come from the original, also where it is hidden"
    return {
        "windowed": f"Mean and deviation of the {target.window} px window around each pixel {put_back}.",
        "patches": f"Mean and deviation of each patch of {target.patch} px {put_back}.",
        "bins": f"Shown is the expected value over {target.bins} bins of each colour.",
        "clusters": "Shown is the expected colour over all clusters.",
    }.get(target.kind, "")
