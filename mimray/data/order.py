"""Which rows a global batch holds: a pure function of (seed, epoch) and nothing else.

Row groups are permuted, laid end to end, and mixed within consecutive windows, so that a batch
touches the row groups of one window only. A window of the whole set is a true permutation.
No table of all rows is ever made: an order holds 8 bytes a row group and one bit a row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mimray.data.rowset import RowSet
from mimray.hashing import Purpose, key

SPARES = 4  # rows that may take the place of one that cannot be read


def held_out(rows: int, fraction: float, seed: int) -> RowSet:
    """Rows that are never trained on: `fraction` of them, 64 to 5,000, never more than half.

    Those whose hash of (seed, row) is smallest.
    """
    count = min(max(round(rows * fraction), 64), 5000, rows // 2)
    return RowSet.smallest(rows, count, Purpose.HOLD_OUT, seed)


class Order:
    """The order of the training rows in every epoch.

    `groups`: how many rows each row group of the source has; `rows`: those that are trained on;
    `window`: rows that are mixed with each other.
    """

    def __init__(self, groups: np.ndarray, rows: RowSet, seed: int, window: int) -> None:
        self.groups, self.rows, self.seed, self.window = groups, rows, seed, window
        self.starts = np.concatenate([[0], np.cumsum(groups)])
        self.kept = rows.counts(self.starts)
        self._group_order = lru_cache(maxsize=2)(self._permute_groups)
        self._window = lru_cache(maxsize=8)(self._mix_window)

    def __reduce__(self) -> tuple[Any, ...]:  # the caches stay behind
        return Order, (self.groups, self.rows, self.seed, self.window)

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Rows at places start .. stop - 1 of an epoch, int64; touches their windows only."""
        first, last = start // self.window, (stop - 1) // self.window
        windows = [self._window(epoch, number) for number in range(first, last + 1)]
        rows = windows[0] if len(windows) == 1 else np.concatenate(windows)
        return rows[start - first * self.window : stop - first * self.window]

    def spares(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """For each of those places, rows to try when its own cannot be read: int64 (n, SPARES).

        Drawn from (seed, row, epoch) among the rows of the same window, whose row groups are at hand.
        """
        rows = self.slice(epoch, start, stop)
        draws = key(
            Purpose.SPARE, self.seed, epoch, rows[:, None], np.arange(SPARES, dtype=np.int64)
        )
        number = np.arange(start, stop) // self.window
        out = np.empty_like(draws)
        for window in np.unique(number):
            candidates, here = self._window(epoch, int(window)), number == window
            out[here] = candidates[draws[here].view(np.uint64) % np.uint64(len(candidates))]
        return out

    def _permute_groups(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Permuted groups, and where each one's rows begin in the epoch (one more at the end)."""
        hashes = key(Purpose.ORDER, self.seed, epoch, -1, np.arange(len(self.groups)))
        permuted = np.argsort(hashes, kind="stable")
        return permuted, np.concatenate([[0], np.cumsum(self.kept[permuted])])

    def _mix_window(self, epoch: int, window: int) -> np.ndarray:
        """The mixed rows of one window of an epoch."""
        permuted, begins = self._group_order(epoch)
        start, stop = window * self.window, min((window + 1) * self.window, len(self))
        first = int(np.searchsorted(begins, start, side="right")) - 1
        last = int(np.searchsorted(begins, stop, side="left"))
        rows = self._rows_of(permuted[first:last])[start - begins[first] : stop - begins[first]]
        return rows[np.argsort(key(Purpose.ORDER, self.seed, epoch, rows), kind="stable")]

    def _rows_of(self, groups: np.ndarray) -> np.ndarray:
        """The trained rows of some groups end to end."""
        sizes = self.groups[groups]
        before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        rows = np.arange(sizes.sum()) + np.repeat(self.starts[groups] - before, sizes)
        return rows[self.rows.has(rows)]
