"""The same pictures under the same masks, checkpoint after checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from mimray.errors import UserError
from mimray.verbs.reconstruct.drawing import draw_sheet, means, predict
from mimray.verbs.reconstruct.models import Opened, kept_checkpoints, open_model
from mimray.verbs.reconstruct.pictures import Picture

_MOST = 12  # pictures; a frame of WebP has at most 16,383 pixels a side


def checkpoints_of(weights: list[str], pictures: list[Picture]) -> list[str]:
    """What a video goes through: those that are named, or all that the one run has kept.

    Raises UserError where they are too few, or the pictures too many.
    """
    if len(pictures) > _MOST:
        raise UserError(
            f"--video shows at most {_MOST} pictures, not {len(pictures)}; lower --images"
        )
    return weights if len(weights) > 1 else kept_checkpoints(weights[0])


def over_steps(
    checkpoints: list[str],
    overrides: list[str],
    recipe: str | None,
    pictures: list[Picture],
    seed: int | None,
    fills: bool,
) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """For each checkpoint in turn its sheet, and its mean loss and skill.

    Raises UserError as `open_model`, and for one that takes pictures of another size.
    """
    (size,) = {len(picture.pixels) for picture in pictures}
    for weights in checkpoints:
        opened: Opened = open_model(weights, overrides, recipe)
        own = opened.recipe.model.image_size
        if own != size:
            raise UserError(
                f"--from {weights}: takes pictures of {own} px and the last of them of {size}; give all "
                "one size by model.image_size"
            )
        shown = predict(opened, pictures, seed)
        figures = {"from": weights, "name": opened.name, "step": opened.step, **means(shown)}
        yield draw_sheet(opened, pictures, shown, fills), figures
