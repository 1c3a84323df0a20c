"""One picture under many masks: a sheet of units and ratios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from mimray.analysis.reconstruction import Reconstruction
from mimray.errors import UserError
from mimray.mim.build import visible_tokens
from mimray.mim.masks import hidden_cells
from mimray.recipe import Mask, validate_recipe
from mimray.report.reconstruction import Cell, Words, draw_masks
from mimray.verbs.reconstruct.drawing import about, figures, note, predict
from mimray.verbs.reconstruct.models import Opened
from mimray.verbs.reconstruct.pictures import Picture

Masks = list[list[Mask]]
"""A row for each ratio, in it a mask for each unit."""


def masks_of(opened: Opened, units: list[int] | None, ratios: list[float] | None) -> Masks:
    """Of the recipe's strategy, and of its own unit or ratio where none are given.

    Raises UserError for a mask that does not fit the picture, the encoder or the target.
    """
    own = opened.recipe.mask
    return [
        [_fitting(opened, unit, ratio) for unit in units or [own.unit]]
        for ratio in ratios or [own.ratio]
    ]


def _fitting(opened: Opened, unit: int, ratio: float) -> Mask:
    settings = opened.recipe.model_dump(mode="json")
    settings["mask"] |= {"unit": unit, "ratio": ratio}
    recipe = validate_recipe(settings)
    coarsest = max(opened.model.patch, opened.model.target.pixel)  # one is a multiple of the other
    if unit % coarsest:
        raise UserError(
            f"mask.unit={unit} is not a multiple of {coarsest}, which the encoder's patch and the "
            f"target's positions ask for; {recipe.units_to_take(coarsest)}"
        )
    cells = recipe.model.image_size // unit
    try:
        hidden_cells(recipe.mask.strategy, cells, cells, ratio)
        if recipe.model.visible_only:
            visible_tokens(recipe)
    except ValueError as error:
        raise UserError(str(error)) from None
    return recipe.mask


def under_masks(
    opened: Opened, pictures: list[Picture], seed: int | None, masks: Masks
) -> Iterator[tuple[Image.Image, list[dict[str, Any]]]]:
    """For each picture in turn its sheet, and the figures of all its cells."""
    shown = [[predict(opened, pictures, seed, mask) for mask in row] for row in masks]
    trained = opened.trained
    what = (
        f"{about(opened)}, trained on {trained.strategy} masks in units of {trained.unit} px with "
        f"{trained.ratio:.0%} hidden. Of each mask: what the model sees, and with its prediction."
    )
    for place, picture in enumerate(pictures):
        own = [[cell[place] for cell in row] for row in shown]
        drawing = draw_masks(
            Words(f"{picture.name} seen by {opened.title}", what, note(opened.recipe)),
            own[0][0].original,
            [f"units of {mask.unit} px" for mask in masks[0]],
            [f"{row[0].ratio:.0%}" for row in masks],
            [[Cell(one.masked, one.together, _below(one)) for one in row] for row in own],
        )
        cells = [
            {"name": picture.name, "unit": mask.unit, "ratio": mask.ratio, **figures(one)}
            for of_masks, row in zip(masks, own, strict=True)
            for mask, one in zip(of_masks, row, strict=True)
        ]
        yield drawing, cells


def _below(one: Reconstruction) -> str:
    """The line below a cell."""
    skill = "" if one.skill is None else f", skill {one.skill:+.2f}"
    return f"AvgDist {one.average_distance:.1f} px, loss {one.loss:.3f}{skill}"
