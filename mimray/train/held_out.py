"""The held-out pictures of one trainer's share, decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mimray.train.batches import Received, to_device, unreadable
from mimray.train.group import Trainer
from mimray.train.job import Job
from mimray.train.streams import val_stream

_CACHE_BYTES = 2**30


class HeldOut:
    """Iterate over it to get this rank's micro-batches on its device, each time the same.

    Decoded pictures stay in the device's memory up to 1 GiB a trainer; more are streamed every time.
    `damaged`: (row, reason) of pictures that could not be read since somebody last emptied it; each is
    named once. `first`: a micro-batch with something readable in it, if there is one; None before the
    first time.
    """

    def __init__(self, job: Job, trainer: Trainer) -> None:
        self.job, self.rank, self.device = job, trainer.rank, trainer.device
        self.damaged: list[tuple[int, int]] = []
        self.first: Received | None = None
        self._kept: list[Received] | None = None
        self._known = False

    def __iter__(self) -> Iterator[Received]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Received] = []
        size = 0
        for columns in val_stream(self.job, self.rank):
            batch = {name: torch.from_numpy(column.copy()) for name, column in columns.items()}
            received = to_device(batch, self.device)
            self.damaged += [] if self._known else unreadable(batch)
            if self.first is None or not self.first.weight.any():
                self.first = received
            size += received.images.nbytes
            if size <= _CACHE_BYTES and not self._known:
                kept.append(received)
            else:
                kept.clear()
            yield received
        self._kept = kept or None
        self._known = True
