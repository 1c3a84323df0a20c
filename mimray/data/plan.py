"""The plan: which rows each rank gets, round by round, from a position to the end of a run.

A position is the number of global batches consumed. The batch at a position is a slice of the
order. It is dealt to the ranks by row, so that each rank reads few row groups, and each rank's share
is cut into micro-batches in the order's own (mixed) sequence; what is missing to fill the last is
padded with row -1, which weighs nothing. So the batch is the same set of pictures for every number
of workers, dividing or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

PADDING = -1


class Block(NamedTuple):
    """What one data task reads: `rows` int64 (n,), the `epochs` of each, `spares` int64 (n, k)."""

    rows: np.ndarray
    epochs: np.ndarray
    spares: np.ndarray


class Rows(Protocol):
    """Where a plan takes its rows from: `mimray.data.order.Order`, or `FixedRows`."""

    def __len__(self) -> int: ...

    def slice(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Rows at places start .. stop - 1 of an epoch: int64."""
        ...

    def spares(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """What may take their places: int64 (n, k)."""
        ...


@dataclass(frozen=True)
class Plan:
    """Positions `start` to `stop` of a run over `order`, for `workers` ranks.

    `batch`: pictures a position; `micro`: pictures a forward pass; `block_rows`: about how many
    pictures one data task decodes; `segment_blocks`: blocks that Ray keeps books of at a time;
    `together`: so many pictures of a batch, in their order, stay on one rank and in one pass, of which
    `micro` must be a multiple.
    """

    order: Rows
    batch: int
    micro: int
    workers: int
    start: int
    stop: int
    block_rows: int
    segment_blocks: int = 2048
    together: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Positions in an epoch; the rows that do not fill a batch are left out, others each time."""
        return len(self.order) // self.batch

    @property
    def rounds(self) -> int:
        """Micro-batches that each rank gets a position."""
        units = math.ceil(self.batch / self.together)
        return math.ceil(math.ceil(units / self.workers) * self.together / self.micro)

    @property
    def block_rounds(self) -> int:
        """Rounds, of one rank, in a block."""
        return max(1, self.block_rows // self.micro)

    @cached_property
    def blocks(self) -> int:
        """Blocks of each rank; the last is padded, for blocks must be of equal size."""
        return math.ceil((self.stop - self.start) * self.rounds / self.block_rounds)

    def in_blocks_of(self, rows: int) -> Plan:
        """The same plan in blocks of another size."""
        return replace(self, block_rows=rows)

    def epoch(self, position: int) -> int:
        """The epoch that a position lies in."""
        return position // self.steps_per_epoch

    def rows(self, position: int) -> np.ndarray:
        """All rows of the global batch at a position: int64 (batch,)."""
        return self.order.slice(*self._places(position))

    def _places(self, position: int) -> tuple[int, int, int]:
        place = position % self.steps_per_epoch * self.batch
        return self.epoch(position), place, place + self.batch

    def _deal(self, rows: np.ndarray) -> np.ndarray:
        """Each rank's share of a batch, as places in it: int64 (workers, rounds, micro), -1 padded."""
        units = np.argsort(rows[:: self.together], kind="stable")
        shares = np.full((self.workers, self.rounds * self.micro), PADDING, dtype=np.int64)
        for rank in range(self.workers):
            begin, end = (len(units) * r // self.workers for r in (rank, rank + 1))
            firsts = np.sort(units[begin:end]) * self.together
            places = (firsts[:, None] + np.arange(self.together)).ravel()
            places = places[places < len(rows)]  # the last unit may be short
            shares[rank, : len(places)] = places
        return shares.reshape(self.workers, self.rounds, self.micro)

    def micro_batches(self, position: int, rank: int) -> np.ndarray:
        """Rows of one rank at a position: int64 (rounds, micro), padded with -1."""
        rows = self.rows(position)
        return np.append(rows, PADDING)[self._deal(rows)[rank]]

    def block_of_all(self, number: int) -> list[Block]:
        """Block `number` of every rank."""
        first = number * self.block_rounds
        last = min(first + self.block_rounds, (self.stop - self.start) * self.rounds) - 1
        steps = range(first // self.rounds, last // self.rounds + 1)
        parts = [self._dealt(self.start + step) for step in steps]
        skip = first - steps[0] * self.rounds
        columns = [
            np.concatenate(c, axis=1)[:, skip : skip + self.block_rounds]
            for c in zip(*parts, strict=True)
        ]
        missing = self.block_rounds - columns[0].shape[1]
        if missing:
            columns = [
                np.pad(c, [(0, 0), (0, missing), *[(0, 0)] * (c.ndim - 2)], constant_values=PADDING)
                for c in columns
            ]
        count = self.block_rounds * self.micro
        return [
            Block(*(c[rank].reshape(count, *c.shape[3:]) for c in columns))
            for rank in range(self.workers)
        ]

    def __getstate__(self) -> dict[str, Any]:  # without what is cached
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _dealt(self) -> Callable[[int], Block]:
        """`_position`, which several blocks in a row may ask for."""
        return lru_cache(maxsize=2)(self._position)

    def _position(self, position: int) -> Block:
        """The batch at a position, dealt: arrays of shape (workers, rounds, micro, ...)."""
        epoch, start, stop = self._places(position)
        rows = self.order.slice(epoch, start, stop)
        shares = self._deal(rows)
        spares = self.order.spares(epoch, start, stop)
        none = np.full((1, spares.shape[1]), PADDING)
        return Block(
            np.append(rows, PADDING)[shares],
            np.full_like(shares, epoch),
            np.concatenate([spares, none])[shares],
        )


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

    def spares(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """None: a validation picture that cannot be read is left out."""
        return np.zeros((stop - start, 0), dtype=np.int64)


def validation_plan(rows: np.ndarray, micro: int, workers: int, block_rows: int) -> Plan:
    """A plan that goes once over fixed rows, each rank a share."""
    batch = micro * workers
    order = FixedRows(rows, batch)
    return Plan(order, batch, micro, workers, 0, len(order) // batch, block_rows)
