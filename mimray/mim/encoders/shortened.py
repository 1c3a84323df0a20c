"""Encoders without their last blocks, which stand for what those blocks have learned.

Dark Secrets of MIM drops the last layers of a trained encoder, loads those that remain, and fine-tunes:
where a task is no worse without them, they had learned nothing for it. The paper does not say how a
stage of few blocks is treated, so there are two ways of counting (`DropFrom`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

DropFrom = Literal["last", "longest"]
"""Where blocks go first: from the end of the last stage, then of the one before it, and so on; or from
the end of the longest stage alone. A stage always keeps its first block, so strides stay as they were."""


def stage_depths(sizes: Mapping[str, Any]) -> tuple[int, ...]:
    """Blocks of every stage, from an encoder's sizes; a ViT is one stage."""
    return tuple(sizes["depths"]) if "depths" in sizes else (sizes["depth"],)


def shortened_depths(
    depths: tuple[int, ...], drop: int, drop_from: DropFrom = "last"
) -> tuple[int, ...]:
    """Blocks of every stage that remain. Raises ValueError for more than there are to drop."""
    left, remaining = drop, list(depths)
    for stage in _order(depths, drop_from):
        taken = min(left, depths[stage] - 1)
        remaining[stage], left = depths[stage] - taken, left - taken
    if left or drop < 0:
        shown = "-".join(map(str, depths))
        where = "its longest stage" if drop_from == "longest" else "each stage"
        raise ValueError(
            f"{drop} layers cannot be dropped from {shown}: {where} keeps one, so {drop - left} is the most"
        )
    return tuple(remaining)


def _order(depths: tuple[int, ...], drop_from: DropFrom) -> list[int]:
    """Stages, in the order in which they give blocks away."""
    backwards = list(range(len(depths)))[::-1]
    return backwards if drop_from == "last" else [max(backwards, key=lambda stage: depths[stage])]


def shortened_sizes(
    sizes: Mapping[str, Any], drop: int, drop_from: DropFrom = "last"
) -> dict[str, Any]:
    """The sizes of an encoder without `drop` blocks. Raises ValueError as `shortened_depths`."""
    depths = shortened_depths(stage_depths(sizes), drop, drop_from)
    name, value = ("depths", depths) if "depths" in sizes else ("depth", depths[0])
    return {**sizes, name: value}


def take_remaining(model: nn.Module, whole: nn.Module) -> None:
    """Fill a model from one that has the same encoder with all its blocks, and the same around it."""
    state = whole.state_dict()
    model.load_state_dict({name: state[name] for name in model.state_dict()})
