"""Targets by name: what the hidden pixels are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from mimray.mim.targets.pixels import Pixels
from mimray.mim.targets.windowed import WindowedPixels

__all__ = ["TARGETS", "Target", "build_target"]


class Target(Protocol):
    """What the model regresses, and the way back to a picture that can be looked at."""

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> target (B, 3, H, W)."""
        ...

    def to_images(self, prediction: Tensor, images: Tensor) -> Tensor:
        """A prediction in target space -> normalised images; statistics come from `images`."""
        ...


TARGETS: dict[str, Callable[[int], Target]] = {
    "pixels": lambda window: Pixels(),
    "windowed": WindowedPixels,
}
"""Each is built with `target.window`, pixels, which it may not need."""


def build_target(kind: str, window: int) -> Target:
    """Build a target; `window` (pixels, odd) is used by `windowed` alone.

    Raises ValueError for an unknown kind.
    """
    if kind not in TARGETS:
        raise ValueError(f"unknown target {kind!r}; known: {', '.join(TARGETS)}")
    return TARGETS[kind](window)
