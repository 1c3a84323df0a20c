"""A set of a source's rows, one bit a row: 1.8 MB for ImageNet-22k, 125 MB for a billion rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mimray.hashing import key

_CHUNK = 1 << 18  # rows looked at together, so that their hashes stay in the cache; a multiple of 8


@dataclass(frozen=True, eq=False)
class RowSet:
    """Some of the rows 0 .. size - 1. `bits`: uint8, eight rows a byte, the first in its top bit."""

    bits: np.ndarray
    size: int

    @classmethod
    def everything(cls, size: int) -> RowSet:
        """All rows."""
        bits = np.full(-(-size // 8), 0xFF, dtype=np.uint8)
        if size % 8:
            bits[-1] = 0xFF << (8 - size % 8) & 0xFF
        return cls(bits, size)

    @classmethod
    def of(cls, rows: np.ndarray, size: int) -> RowSet:
        """The rows named, int64 in any order. Raises ValueError for one that does not exist."""
        return cls.of_pieces([rows], size)

    @classmethod
    def of_pieces(cls, pieces: Iterable[np.ndarray], size: int) -> RowSet:
        """The rows named by several arrays. Raises ValueError for one that does not exist."""
        bits = np.zeros(-(-size // 8), dtype=np.uint8)
        for rows in pieces:
            if len(rows) and not (rows.min() >= 0 and rows.max() < size):
                raise ValueError(f"rows beyond 0 .. {size - 1}")
            np.bitwise_or.at(bits, rows >> 3, (128 >> (rows & 7)).astype(np.uint8))
        return cls(bits, size)

    @classmethod
    def smallest(cls, size: int, count: int, *parts: int) -> RowSet:
        """The `count` rows whose hash of (parts, row) is smallest: a random set, nested in larger ones.

        Looks at the rows in pieces, so a billion of them fit a small process.
        """
        if count >= size:
            return cls.everything(size)
        shift = np.int64(48)
        histogram = np.zeros(1 << 16, dtype=np.int64)
        for hashes in _hashes(size, parts):
            histogram += np.bincount((hashes >> shift) + (1 << 15), minlength=1 << 16)
        before = np.cumsum(histogram)
        bucket = int(np.searchsorted(before, count, side="right"))
        candidates = [h[(h >> shift) + (1 << 15) == bucket] for h in _hashes(size, parts)]
        left = count - (int(before[bucket - 1]) if bucket else 0)
        limit = np.sort(np.concatenate(candidates))[left]  # the first that is not taken
        packed = [np.packbits(h < limit) for h in _hashes(size, parts)]
        return cls(np.concatenate(packed), size)

    @cached_property
    def _count(self) -> int:
        return int(sum(np.bitwise_count(p).sum() for p in np.array_split(self.bits, 64)))

    def __len__(self) -> int:
        return self._count

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows is in the set: bool, of the same shape."""
        return (self.bits[rows >> 3] >> (7 - (rows & 7)).astype(np.uint8) & 1).astype(bool)

    def counts(self, starts: np.ndarray) -> np.ndarray:
        """How many rows of the set lie in each group; `starts`: each one's first row, and the end."""
        within = np.zeros(len(starts), dtype=np.int64)  # rows of the set before each start
        total = 0
        for first, flags in self._pieces():
            low, high = np.searchsorted(starts, [first, first + len(flags)])
            running = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
            within[low:high] = total + running[starts[low:high] - first]
            total += int(running[-1])
        within[np.searchsorted(starts, self.size) :] = total
        return np.diff(within)

    def rows(self) -> np.ndarray:
        """All rows of the set, ascending: int64."""
        return np.concatenate([*self.pieces(), np.zeros(0, dtype=np.int64)])

    def pieces(self) -> Iterator[np.ndarray]:
        """The same, some at a time."""
        for first, flags in self._pieces():
            yield (first + np.flatnonzero(flags)).astype(np.int64)

    def within(self, other: RowSet) -> RowSet:
        """The rows that both have."""
        return RowSet(self.bits & other.bits, self.size)

    def without(self, other: RowSet) -> RowSet:
        """The rows that are not in another set of the same source."""
        return RowSet(self.bits & ~other.bits, self.size)

    def _pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, self.size, _CHUNK):
            stop = min(first + _CHUNK, self.size)
            yield first, np.unpackbits(self.bits[first >> 3 : -(-stop // 8)], count=stop - first)


def _hashes(size: int, parts: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The hash of every row, in pieces: int64, all different (the last round is a bijection)."""
    for start in range(0, size, _CHUNK):
        yield key(*parts, np.arange(start, min(start + _CHUNK, size)))
