"""Layer-wise decay of the learning rate: which layer of its encoder a parameter belongs to.

Layer 0 is what comes before the first block, then every block is a layer, and the last is all that
comes behind them: norms, heads, and a position bias that the blocks share. The learning rate is
multiplied by `decay` for every layer between a parameter and the last one (microsoft/SimMIM
`optimizer.py`, after BEiT). The scale stands in the parameter group and is applied in one place,
`set_learning_rate`: timm's schedulers from 0.6 on multiply by it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mimray.optim.groups import LearningRateScale

LayerNames = Sequence[tuple[str, ...]]
"""For every layer but the last, how the names of its parameters begin, within the encoder."""

_TOKENS = ("mask_token", "cls_token", "pos_embed", "absolute_pos_embed")


class Staged(Protocol):
    """What an encoder says of itself: its family, and the blocks of every stage."""

    family: str
    depths: tuple[int, ...]


@dataclass(frozen=True)
class _Names:
    """A family's names: before the blocks, of a block, and of what halves the grid after a stage.

    In `block` and `merge` stand `stage` and `block`, counted from 0, `next`, the stage behind,
    `number`, the block counted through all stages, and `even` and `odd`, the halves of a block that
    is two modules.
    """

    stem: tuple[str, ...]
    block: tuple[str, ...]
    merge: str | None = None


_SWIN = _Names(("patch_embed.",), ("layers.{stage}.blocks.{block}.",), "layers.{next}.downsample.")

_FAMILIES = {
    "swin": _SWIN,
    "swinv2": _SWIN,
    "vit": _Names(("patch_embed.",), ("blocks.{number}.",)),
    # a ResNet's block halves the grid itself
    "resnet": _Names(("conv1.", "bn1."), ("layer{next}.{block}.",)),
    "convnext": _Names(
        ("stem.",), ("stages.{stage}.blocks.{block}.",), "stages.{next}.downsample."
    ),
    "replknet": _Names(
        ("stem.",),
        ("stages.{stage}.blocks.{even}.", "stages.{stage}.blocks.{odd}."),
        "transitions.{stage}.",
    ),
}


def layer_names(
    family: str, depths: Sequence[int], merges_apart: bool = False
) -> list[tuple[str, ...]]:
    """The layers of an encoder but the last one, `depths` being the blocks of every stage.

    Patch merging belongs to the block before it, as in SimMIM (Swin-B: 26 layers with the last), or
    with `merges_apart` is a layer of its own, as in SwinTransformer/MIM-Depth-Estimation
    `models/optimizer.py` (29). Raises ValueError for an unknown family.
    """
    if family not in _FAMILIES:
        raise ValueError(f"layers of {family!r} are not known; known: {', '.join(_FAMILIES)}")
    names = _FAMILIES[family]
    layers = [_TOKENS + names.stem]
    number = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            at = {"stage": stage, "next": stage + 1, "block": block, "number": number}
            at |= {"even": 2 * block, "odd": 2 * block + 1}
            layers.append(tuple(name.format(**at) for name in names.block))
            number += 1
        if names.merge is not None and stage + 1 < len(depths):
            merge = (names.merge.format(stage=stage, next=stage + 1),)
            if merges_apart:
                layers.append(merge)
            else:
                layers[-1] += merge
    return layers


def layer_id(name: str, layers: LayerNames) -> int:
    """Layer of a parameter of a model that has its encoder as `encoder`, counted from 0."""
    if name.startswith("encoder."):
        within = name.removeprefix("encoder.")
        for number, beginnings in enumerate(layers):
            if within.startswith(beginnings):
                return number
    return len(layers)


def layer_scales(encoder: Staged, decay: float, merges_apart: bool = False) -> LearningRateScale:
    """Factor on the learning rate of every parameter, 1 for the last layer."""
    layers = layer_names(encoder.family, encoder.depths, merges_apart)
    return lambda name: decay ** (len(layers) - layer_id(name, layers))
