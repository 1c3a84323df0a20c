"""What a rank receives from the stream, checked against the plan row by row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mimray.data.plan import PADDING, Plan
from mimray.errors import RunFailed


@dataclass
class Received:
    """One micro-batch on the device: uint8 `images` (B, 3, H, W), `rows` (B,), `weight` (B,).

    `seen` (B,): the row whose pixels stand there, a spare's where the row's own cannot be read, -1 for
    none. The images' memory is channels-last, as they were decoded.
    """

    images: Tensor
    rows: Tensor
    weight: Tensor
    seen: Tensor


@dataclass
class Batches:
    """Hands out this rank's micro-batches, position by position.

    `stream`: this rank's micro-batches of `plan` as columns on the host. `damaged`: (row, reason) of
    pictures that could not be read since somebody last emptied it; `waited`: seconds spent waiting.
    """

    stream: Iterator[dict[str, Tensor]]
    plan: Plan
    rank: int
    device: torch.device
    damaged: list[tuple[int, int]] = field(default_factory=list)
    waited: float = 0.0

    def __iter__(self) -> Iterator[tuple[int, list[Received]]]:
        """Yield (position, micro-batches). Raises RunFailed when rows are not what the plan says."""
        for position in range(self.plan.start, self.plan.stop):
            expected = self.plan.micro_batches(position, self.rank)
            yield position, [self._receive(rows, position) for rows in expected]

    def _receive(self, rows: np.ndarray, position: int) -> Received:
        began = time.perf_counter()
        batch = next(self.stream, None)
        self.waited += time.perf_counter() - began
        if batch is None or not np.array_equal(batch["row"].numpy(), rows):
            got = "nothing" if batch is None else batch["row"][:4].tolist()
            raise RunFailed(
                f"the stream gave rank {self.rank} rows {got} at position {position} where the order "
                f"says {rows[:4].tolist()}: stopped, for the batch would not be the one asked for"
            )
        self.damaged += unreadable(batch)
        return to_device(batch, self.device)


def unreadable(batch: dict[str, Tensor]) -> list[tuple[int, int]]:
    """(row, reason) of the pictures of a batch that could not be read."""
    bad = batch["reason"] != 0
    return list(zip(batch["row"][bad].tolist(), batch["reason"][bad].tolist(), strict=True))


def to_device(batch: dict[str, Tensor], device: torch.device) -> Received:
    """Move a batch, and let padding and what has no readable spare weigh nothing."""
    weight = (batch["seen"] != PADDING).float()
    columns = (batch["image"], batch["row"], weight, batch["seen"])
    images, rows, weight, seen = (t.to(device, non_blocking=True) for t in columns)
    return Received(images.permute(0, 3, 1, 2), rows, weight, seen)
