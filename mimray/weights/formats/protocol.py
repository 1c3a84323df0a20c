"""What one project's checkpoints offer: how to recognise them, and their names in mimray's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

Weights = dict[str, Tensor]

REBUILT = "rebuilt by the model"
"""Why a name for which `is_rebuilt` holds is dropped."""


class Translated(NamedTuple):
    """`weights` under mimray's names: `encoder.*` as the encoder's own state names them, `head.*` of
    pre-training, `fc_norm.*` and `classifier.*`, the norm after the pooling and the linear layer of a
    classifier; `dropped`: names of the file that have no place, with the reason."""

    weights: Weights
    dropped: dict[str, str]


class Format(Protocol):
    """A project's way of naming weights. Stands in one file, and in `FORMATS`."""

    name: str

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a file with these names is of this format."""
        ...

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        """From the project's names to mimray's."""
        ...

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        """From mimray's names to the project's. Raises ValueError for a family it does not have."""
        ...


def is_rebuilt(name: str) -> bool:
    """Whether a model computes this from its sizes: indices, coordinates and masks of its windows."""
    return name.endswith(("relative_position_index", "relative_coords_table", "attn_mask"))


def why_no_place(name: str, beginnings: Mapping[str, str]) -> str | None:
    """Why mimray has no place for a name: rebuilt, or the reason of its beginning; None otherwise."""
    if is_rebuilt(name):
        return REBUILT
    return next((why for start, why in beginnings.items() if name.startswith(start)), None)


def reshape_token(weights: Mapping[str, Tensor], rank: int) -> Weights:
    """Swin's mask token is (1, 1, width) in their files and (1, 1, 1, width) in mimray."""
    reshaped = dict(weights)
    token = reshaped.get("encoder.mask_token")
    if token is not None and any(name.startswith("encoder.layers.") for name in weights):
        reshaped["encoder.mask_token"] = token.view(*[1] * (rank - 1), -1)
    return reshaped
