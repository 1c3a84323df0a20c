"""Reconstructions of training and of validation pictures, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean

import numpy as np
import torch

from mimray.analysis.reconstruction import Reconstruction, how_drawn, reconstruct
from mimray.errors import UserError
from mimray.evaluate.decoding import decoded
from mimray.mim.masked_losses import fixed_masks
from mimray.mim.model import MaskedImageModel
from mimray.mim.normalisation import normalise
from mimray.recipe import Recipe
from mimray.report.reconstruction import Row, Words, draw_rows, png
from mimray.study.scaling.steps import Shown
from mimray.train.tasks.pretraining import Pretraining

_COLUMNS = ("", "masked", "with visible")


def side_by_side(
    model: MaskedImageModel, recipe: Recipe, title: str, shown: Sequence[Shown]
) -> bytes | None:
    """A PNG: a row holds a picture of each kind. None for a target that is no picture.

    Raises UserError for predictions that are not finite.
    """
    found = []
    for kind in shown:
        seen = _reconstructed(model, recipe, kind)
        if seen is None:
            return None
        found.append(seen)
    columns = [f"{kind.name} {column}".strip() for kind in shown for column in _COLUMNS]
    blank = np.full_like(found[0][0].original, 255)
    rows = []
    for across in zip_longest(*found):
        pictures: list[np.ndarray] = []
        figures: list[tuple[str, str]] = []
        for kind, one in zip(shown, across, strict=True):
            pictures += [blank] * 3 if one is None else [one.original, one.masked, one.together]
            figures += [] if one is None else [(kind.name, f"{one.loss:.3f}")]
        rows.append(Row(pictures, "loss", figures))
    means = ", ".join(
        f"{kind.name} {fmean(one.loss for one in ones):.4f}"
        for kind, ones in zip(shown, found, strict=True)
    )
    mask, target = recipe.mask, recipe.target
    about = (
        f"{recipe.model.encoder} at {recipe.model.image_size} px, target {target.kind}, {mask.strategy} "
        f"masks in units of {mask.unit} px"
    )
    note = f"Mean loss of the pictures shown: {means}. {how_drawn(target)}"
    return png(draw_rows(Words(title, about, note), columns, rows))


def _reconstructed(
    model: MaskedImageModel, recipe: Recipe, kind: Shown
) -> list[Reconstruction] | None:
    """Of those that can be read."""
    device = next(model.parameters()).device
    block = next(decoded(kind.source, [kind.rows], Pretraining(recipe).framing(training=False), 1))
    readable = block["reason"] == 0
    images = torch.from_numpy(block["image"][readable]).to(device).permute(0, 3, 1, 2)
    where = torch.from_numpy(block["row"][readable]).to(device)
    size, seed = recipe.model.image_size, recipe.data.val_seed
    hidden = fixed_masks(recipe.mask, size, model.patch, seed, where)
    try:
        return reconstruct(model, normalise(images), hidden)
    except ValueError as error:
        raise UserError(str(error)) from None
