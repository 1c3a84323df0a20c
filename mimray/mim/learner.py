"""What the training step asks of a model, whatever it learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from mimray.mim.encoders import Encoder


class Learner(nn.Module, ABC):
    """An encoder and what is trained on it; the supervision is what its loss goes by."""

    encoder: Encoder
    other_forwards: tuple[str, ...] = ()
    """Methods that are called besides `forward` and need all of the parameters."""

    @abstractmethod
    def forward(self, images: Tensor, supervision: Tensor, seeds: Tensor | None = None) -> Any:
        """Normalised `images` (B, 3, H, W), `supervision` (B, ...), int64 `seeds` (B,) for drop path ->
        an object whose `error`, (B,), is each picture's loss summed over its values."""

    @abstractmethod
    def values(self, supervision: Tensor) -> Tensor:
        """How many values the loss of each picture runs over: int64 (B,)."""
