"""The plan: which rows each rank gets, round by round, from a position to the end of a run.

A position is the number of global batches consumed. The batch at a position is a slice of the
order; it is cut into micro-batches that are dealt to the ranks in turn. What is missing to fill the
last ones is padded with row -1, which weighs nothing. So the batch is the same set of pictures for
every number of workers, dividing or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mimray.data.order import Order

PADDING = -1


@dataclass(frozen=True)
class Plan:
    """Positions `start` to `stop` of a run over `order`, for `workers` ranks.

    `batch`: pictures a position; `micro`: pictures a forward pass; `block_rows`: about how many
    pictures one data task decodes.
    """

    order: Order
    batch: int
    micro: int
    workers: int
    start: int
    stop: int
    block_rows: int

    @property
    def steps_per_epoch(self) -> int:
        """Positions in an epoch; the rows that do not fill a batch are left out, others each time."""
        return len(self.order) // self.batch

    @property
    def rounds(self) -> int:
        """Micro-batches that each rank gets a position."""
        return math.ceil(self.batch / (self.micro * self.workers))

    @property
    def block_rounds(self) -> int:
        """Rounds, of one rank, in a block."""
        return max(1, self.block_rows // self.micro)

    @cached_property
    def blocks(self) -> int:
        """Blocks of each rank; the last is padded, for blocks must be of equal size."""
        return math.ceil((self.stop - self.start) * self.rounds / self.block_rounds)

    def epoch(self, position: int) -> int:
        """The epoch that a position lies in."""
        return position // self.steps_per_epoch

    def rows(self, position: int) -> np.ndarray:
        """All rows of the global batch at a position: int64 (batch,)."""
        place = position % self.steps_per_epoch * self.batch
        return self.order.slice(self.epoch(position), place, place + self.batch)

    def micro_batches(self, position: int, rank: int) -> np.ndarray:
        """Rows of one rank at a position: int64 (rounds, micro), padded with -1."""
        padded = np.full(self.rounds * self.workers * self.micro, PADDING, dtype=np.int64)
        padded[: self.batch] = self.rows(position)
        return padded.reshape(self.rounds, self.workers, self.micro)[:, rank]

    def block(self, number: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of one block and the epoch of each: int64 (block_rounds * micro,) both."""
        rows = np.full((self.block_rounds, self.micro), PADDING, dtype=np.int64)
        epochs = np.zeros_like(rows)
        for k in range(self.block_rounds):
            step, round_ = divmod(number * self.block_rounds + k, self.rounds)
            position = self.start + step
            if position < self.stop:
                rows[k] = self.micro_batches(position, rank)[round_]
                epochs[k] = self.epoch(position)
        return rows.ravel(), epochs.ravel()


@dataclass(frozen=True)
class FixedRows:
    """An order that is the same in every epoch: the validation pictures, padded to whole batches."""

    rows: np.ndarray
    batch: int

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch) * self.batch

    def slice(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Rows at places start .. stop - 1, padded with -1."""
        part = self.rows[start:stop]
        return np.concatenate([part, np.full(stop - start - len(part), PADDING, dtype=np.int64)])


def validation_plan(rows: np.ndarray, micro: int, workers: int, block_rows: int) -> Plan:
    """A plan that goes once over fixed rows, each rank a share."""
    batch = micro * workers
    order = FixedRows(rows, batch)
    stop = len(order) // batch
    return Plan(order, batch, micro, workers, 0, stop, block_rows)  # type: ignore[arg-type]
