"""What can be known to be wrong about a pre-training's model, from its recipe alone."""

from __future__ import annotations

import torch

from mimray.errors import UserError
from mimray.mim.build import build_model
from mimray.mim.encoders import ENCODERS
from mimray.mim.heads import HEADS
from mimray.mim.masks import STRATEGIES, draw, realised_ratio
from mimray.mim.recomputing import check_stages
from mimray.mim.targets import TARGETS
from mimray.optim import official_decays
from mimray.recipe import Mask, Recipe
from mimray.settings_errors import nearest


def check_model(recipe: Recipe, built: dict[str, int] | None = None) -> None:
    """Names that must be known and sizes that must fit: the model is built, on no device.

    `built`: notes of models that fitted, for recipes that differ in nothing that a model is built from.
    """
    for setting, value, known in (
        ("model.encoder", recipe.model.encoder, ENCODERS),
        ("mask.strategy", recipe.mask.strategy, STRATEGIES),
        ("head.kind", recipe.head.kind, HEADS),
        ("target.kind", recipe.target.kind, TARGETS),
    ):
        if value not in known:
            raise UserError(f"{setting}={value} is not known{nearest(value, list(known))}")
    spec, unit = ENCODERS[recipe.model.encoder], recipe.mask.unit
    if recipe.model.window is not None and spec.window is None:
        raise UserError(
            f"model.window={recipe.model.window}: {recipe.model.encoder} has no windows; "
            "leave it out (model.window=null)"
        )
    if unit % spec.patch:
        raise UserError(
            f"mask.unit={unit} is not a multiple of {recipe.model.encoder}'s patch {spec.patch}; "
            f"{recipe.units_to_take(spec.patch)}"
        )
    try:
        realised_ratio(recipe.mask.strategy, recipe.model.image_size, unit, recipe.mask.ratio)
        pixel = _build(recipe, {} if built is None else built)
        if recipe.optim.like_official:
            official_decays(spec.family)
    except ValueError as error:
        raise UserError(str(error)) from None
    if unit % pixel:
        raise UserError(
            f"mask.unit={unit} hides positions of the target, {pixel} px each, in part; "
            f"take a multiple of {pixel}"
        )
    if recipe.run.reference_mask is not None:
        _check_reference(recipe.run.reference_mask, recipe, pixel)


def _build(recipe: Recipe, built: dict[str, int]) -> int:
    """Side of the target's positions, px. Raises ValueError where the model does not fit together."""
    parts = {"model", "head", "target"} | ({"mask"} if recipe.model.visible_only else set())
    told = f"{recipe.model_dump_json(include=parts)} {recipe.speed.checkpoint_stages}"
    if told not in built:
        with torch.device("meta"):
            model = build_model(recipe)
        check_stages(model.encoder, recipe.speed.checkpoint_stages)
        built[told] = model.target.pixel
    return built[told]


def _check_reference(mask: Mask, recipe: Recipe, pixel: int) -> None:
    """Whether validation can draw it; `pixel`: side of the target's positions."""
    patch, nobody = ENCODERS[recipe.model.encoder].patch, torch.zeros(0, dtype=torch.int64)
    try:
        draw(mask.strategy, recipe.model.image_size, mask.unit, patch, mask.ratio, nobody)
    except ValueError as error:
        raise UserError(f"run.reference_mask: {error}") from None
    if mask.unit % pixel:
        raise UserError(
            f"run.reference_mask: unit {mask.unit} hides positions of the target, {pixel} px each, in "
            f"part; take a multiple of {pixel}"
        )
