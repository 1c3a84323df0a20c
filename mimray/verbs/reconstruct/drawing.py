"""From a model and pictures to a sheet with a row for each, and to figures."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from PIL import Image

from mimray.analysis.reconstruction import Reconstruction, how_drawn, reconstruct
from mimray.errors import UserError
from mimray.mim.masked_losses import fixed_masks, skill
from mimray.mim.normalisation import normalise
from mimray.recipe import CLASSIFIED, Mask, Recipe
from mimray.report.reconstruction import Row, Words, draw_rows
from mimray.verbs.pretrain import name_of_loss
from mimray.verbs.reconstruct.models import Opened
from mimray.verbs.reconstruct.pictures import Picture, batch

_TOGETHER = 16  # pictures in one forward pass
_COLUMNS = ("original", "masked", "prediction", "with visible")
_FILLS = {"visible_mean": "visible mean", "nearest": "nearest visible"}


def predict(
    opened: Opened, pictures: list[Picture], seed: int | None, mask: Mask | None = None
) -> list[Reconstruction]:
    """What the model makes of each picture; the recipe's mask, and the seed of its run's validation,
    when not given.

    Raises UserError for a target that is no picture, and for a prediction that is not finite.
    """
    recipe = opened.recipe
    mask = mask or recipe.mask
    seed = recipe.data.val_seed if seed is None else seed
    found: list[Reconstruction] = []
    for start in range(0, len(pictures), _TOGETHER):
        pixels, numbers = batch(pictures[start : start + _TOGETHER], opened.device)
        size, patch = recipe.model.image_size, opened.model.patch
        hidden = fixed_masks(mask, size, patch, seed, numbers)
        try:
            part = reconstruct(opened.model, normalise(pixels), hidden)
        except ValueError as error:
            raise UserError(
                f"--from {opened.weights}: {error} Take an earlier checkpoint"
            ) from None
        if part is None:
            raise UserError(
                f"--from {opened.weights}: what it predicts (target.kind={recipe.target.kind}) is no "
                "picture, so there is nothing to draw; `mimray runs show` has its loss"
            )
        found += part
    return found


def draw_sheet(
    opened: Opened, pictures: list[Picture], shown: list[Reconstruction], fills: bool
) -> Image.Image:
    """Original, masked, prediction, prediction beside what is visible, and the fills if wanted."""
    more = list(shown[0].fills) if fills else []
    rows = [
        Row(
            [one.original, one.masked, one.prediction, one.together]
            + [one.fills[name][0] for name in more],
            picture.name,
            _beside(one),
        )
        for picture, one in zip(pictures, shown, strict=True)
    ]
    mask, ratio = opened.recipe.mask, shown[0].hidden_ratio
    masks = f"{mask.strategy} masks in units of {mask.unit} px, {ratio:.0%} hidden"
    asked = "The loss asks nothing of visible pixels."
    words = Words(opened.title, f"{about(opened)}, {masks}", f"{note(opened.recipe)} {asked}")
    return draw_rows(words, [*_COLUMNS, *(_FILLS[name] for name in more)], rows)


def _beside(one: Reconstruction) -> list[tuple[str, str]]:
    """The figures beside a row."""
    worth = [] if one.skill is None else [("skill", f"{one.skill:+.3f}")]
    fills = [(_FILLS[name], f"{loss:.3f}") for name, (_, loss) in one.fills.items()]
    distance = ("AvgDist", f"{one.average_distance:.1f} px")
    return [("loss", f"{one.loss:.3f}"), *worth, *fills, distance]


def about(opened: Opened) -> str:
    """What was asked of which encoder."""
    model, target = opened.recipe.model, opened.recipe.target
    return f"{model.encoder} at {model.image_size} px, target {target.kind}"


def note(recipe: Recipe) -> str:
    """What to know below a sheet."""
    classified = recipe.target.kind in CLASSIFIED
    sentences = [
        f"Loss: {name_of_loss(recipe)}.",
        "" if classified else "Skill: 1 - loss / nearest visible.",
        how_drawn(recipe.target),
    ]
    return " ".join(filter(None, sentences))


def figures(one: Reconstruction) -> dict[str, Any]:
    """As a run's record names them."""
    fills = {f"fill_{name}": loss for name, (_, loss) in one.fills.items()}
    return {
        "loss": one.loss,
        "skill": one.skill,
        **fills,
        "hidden_ratio": one.hidden_ratio,
        "average_distance": one.average_distance,
    }


def means(shown: list[Reconstruction]) -> dict[str, float | None]:
    """Loss and skill over all pictures, as validation has them: as much is hidden in each."""
    loss = fmean(one.loss for one in shown)
    if not shown[0].fills:
        return {"loss": loss, "skill": None}
    nearest = fmean(one.fills["nearest"][1] for one in shown)
    worth = skill(loss, nearest)
    return {"loss": loss, "skill": None if math.isnan(worth) else worth}
