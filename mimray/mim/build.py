"""From a recipe to a model."""

from __future__ import annotations

from mimray.mim.encoders import ENCODERS, Encoder, build_encoder
from mimray.mim.heads import HeadShape, build_head
from mimray.mim.masks import hidden_cells
from mimray.mim.model import MaskedImageModel
from mimray.mim.targets import Target, build_target
from mimray.recipe import Head, Recipe


def build_model(recipe: Recipe) -> MaskedImageModel:
    """Build the model of a recipe, freshly initialised from torch's random state.

    Raises ValueError for a name that is not known and for sizes that do not fit each other.
    """
    model = recipe.model
    if model.visible_only and recipe.head.kind != "transformer":
        raise ValueError(
            f"model.visible_only needs head.kind=transformer, and it is {recipe.head.kind}: no other "
            "head looks from every hidden place to every visible one"
        )
    encoder = build_encoder(
        model.encoder,
        model.image_size,
        model.window,
        model.drop_path,
        visible=visible_tokens(recipe) if model.visible_only else None,
    )
    target = build_target(recipe.target, model.image_size)
    side = model.image_size // encoder.stride
    return assemble(encoder, target, (side, side), recipe.head, recipe.target.region == "all")


def assemble(
    encoder: Encoder,
    target: Target,
    grid: tuple[int, int],
    head: Head | None = None,
    whole_picture: bool = False,
) -> MaskedImageModel:
    """Join an encoder and a target by a head; `grid`: (rows, columns) of the encoder's output.

    Raises ValueError where a position of the target is larger than one of the encoder.
    """
    if encoder.stride % target.pixel:
        raise ValueError(
            f"the target has {target.pixel} px a position, more than the encoder's {encoder.stride} "
            "or no divisor of it; take a finer target or another encoder"
        )
    shape = HeadShape(encoder.channels, grid, target.outputs, encoder.stride // target.pixel)
    return MaskedImageModel(encoder, build_head(shape, head or Head()), target, whole_picture)


def visible_tokens(recipe: Recipe) -> int:
    """Tokens of the encoder's input that a mask of this recipe leaves visible, in every picture.

    Raises ValueError where the mask's unit is no multiple of the last stride: a position of the
    output would be hidden in part.
    """
    spec = ENCODERS.get(recipe.model.encoder)
    if spec is None or spec.visible_only is None:
        return 0  # build_encoder says what is wrong
    mask, size = recipe.mask, recipe.model.image_size
    if mask.unit % spec.stride:
        raise ValueError(
            f"model.visible_only needs mask.unit to be a multiple of {recipe.model.encoder}'s stride "
            f"{spec.stride}, and it is {mask.unit}"
        )
    cells = size // mask.unit
    visible = cells**2 - hidden_cells(mask.strategy, cells, cells, mask.ratio)
    return visible * (mask.unit // spec.patch) ** 2
