"""Prediction heads by name: a feature map in, a prediction at the picture's size out."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from mimray.mim.heads.linear import LinearHead

__all__ = ["HEADS", "build_head"]


class HeadBuilder(Protocol):
    """`channels`, `stride`: of the encoder's output; `outputs`: channels of the prediction.

    The head maps (B, channels, H/stride, W/stride) to (B, outputs, H, W).
    """

    def __call__(self, channels: int, stride: int, outputs: int) -> nn.Module: ...


HEADS: dict[str, HeadBuilder] = {"linear": LinearHead}


def build_head(kind: str, channels: int, stride: int, outputs: int = 3) -> nn.Module:
    """Build a prediction head. Raises ValueError for an unknown kind."""
    if kind not in HEADS:
        raise ValueError(f"unknown head {kind!r}; known: {', '.join(HEADS)}")
    return HEADS[kind](channels, stride, outputs)
