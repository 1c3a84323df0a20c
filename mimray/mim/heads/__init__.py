"""Prediction heads by name: a feature map in, a prediction on the target's grid out.

A head stands in one file; adding one adds the file and a line in `HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mimray.mim.heads.inverse_swin import inverse_swin_base, inverse_swin_tiny
from mimray.mim.heads.linear import linear_head
from mimray.mim.heads.mlp import mlp_head
from mimray.mim.heads.shape import HeadShape
from mimray.mim.heads.transformer import transformer_head
from mimray.recipe import Head
from mimray.settings_errors import nearest

__all__ = ["HEADS", "HeadShape", "build_head"]

HEADS: dict[str, Callable[[HeadShape, Head], nn.Module]] = {
    "linear": linear_head,
    "mlp": mlp_head,
    "inverse_swin_tiny": inverse_swin_tiny,
    "inverse_swin_base": inverse_swin_base,
    "transformer": transformer_head,
}
"""Each maps features (B, channels, h, w) to (B, outputs, h * upscale, w * upscale)."""


def build_head(shape: HeadShape, settings: Head) -> nn.Module:
    """Build a prediction head. Raises ValueError for a kind that is not known."""
    if settings.kind not in HEADS:
        raise ValueError(
            f"head {settings.kind!r} is not known{nearest(settings.kind, list(HEADS))}"
        )
    return HEADS[settings.kind](shape, settings)
