"""What every diagnostic offers: it streams over pictures, and shards of them merge exactly."""

from __future__ import annotations

from typing import Any, Protocol, Self

from torch import Tensor

Row = dict[str, Any]
"""Of one layer, or of one of its heads; plain numbers and words, so that it fits a table."""


class Diagnostic(Protocol):
    """Sums over pictures, in float64; its constructor takes an encoder in evaluation mode.

    What it has summed travels without the encoder: `state` in one process, `load` in another.
    """

    def update(self, images: Tensor) -> None:
        """Add a batch: normalised float32 (B, 3, H, W) on the encoder's device."""

    def merge(self, other: Self) -> None:
        """Add what another one of the same encoder and the same options has summed, as if its
        pictures had been seen here."""

    def rows(self) -> list[Row]:
        """The results, a row a layer and head; they start with `layer`, its name, `index`, its number
        from 1, `stage`, and `head`, each from 1, where there is one."""

    def conventions(self) -> dict[str, str]:
        """What was computed where definitions differ, in words for a figure's margin."""

    def state(self) -> dict[str, Any]:
        """The sums: tensors on the CPU and plain values."""

    def load(self, state: dict[str, Any]) -> None:
        """Take the place of what was summed so far; `state` is one of the same encoder's."""
