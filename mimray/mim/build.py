"""From a recipe to a model."""

from __future__ import annotations

from mimray.mim.encoders import build_encoder
from mimray.mim.heads import build_head
from mimray.mim.model import MaskedImageModel
from mimray.mim.targets import build_target
from mimray.recipe import Recipe


def build_model(recipe: Recipe) -> MaskedImageModel:
    """Build the model of a recipe, freshly initialised from torch's random state.

    Raises ValueError for a name that is not known.
    """
    model = recipe.model
    encoder = build_encoder(model.encoder, model.image_size, model.window, model.drop_path)
    head = build_head(recipe.head.kind, encoder.channels, encoder.stride)  # type: ignore[arg-type]
    return MaskedImageModel(encoder, head, build_target(recipe.target.kind, recipe.target.window))
