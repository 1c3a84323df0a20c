"""Which rows a global batch holds: a pure function of (seed, epoch) and nothing else.

Row groups are permuted, laid end to end, and mixed within consecutive windows, so that a batch
touches the row groups of one window only. A window of the whole set is a true permutation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mimray.hashing import Purpose, key


def held_out(rows: int, fraction: float, seed: int) -> np.ndarray:
    """Rows that are never trained on: `fraction` of them, 64 to 5,000, never more than half.

    Those whose hash of (seed, row) is smallest, in ascending order: int64.
    """
    count = min(max(round(rows * fraction), 64), 5000, rows // 2)
    hashes = key(Purpose.HOLD_OUT, seed, np.arange(rows))
    return np.sort(np.argsort(hashes, kind="stable")[:count])


@dataclass(frozen=True)
class Order:
    """The order of the training rows in every epoch.

    `groups`: how many rows each row group has; `excluded`: ascending rows that are held out.
    """

    groups: np.ndarray
    excluded: np.ndarray
    seed: int
    window: int

    def __len__(self) -> int:
        return int(self.groups.sum()) - len(self.excluded)

    @property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.groups)])

    def _kept(self) -> np.ndarray:
        """Rows of each group that are not held out."""
        starts = self._starts
        gone = np.searchsorted(self.excluded, starts[1:]) - np.searchsorted(self.excluded, starts[:-1])
        return self.groups - gone

    def _group_rows(self, group: int) -> np.ndarray:
        rows = np.arange(self._starts[group], self._starts[group + 1])
        return rows[~np.isin(rows, self.excluded, assume_unique=True)]

    def slice(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Rows at places start .. stop - 1 of an epoch, int64; touches their windows only."""
        windows = range(start // self.window, (stop - 1) // self.window + 1)
        rows = np.concatenate([_window(self, epoch, w) for w in windows])
        offset = windows[0] * self.window
        return rows[start - offset : stop - offset]

    def __hash__(self) -> int:  # for the caches below; arrays do not hash
        return hash((self.groups.tobytes(), self.excluded.tobytes(), self.seed, self.window))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and hash(self) == hash(other)


@lru_cache(maxsize=4)
def _group_order(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Permuted groups, and where each one's rows begin in the epoch (one more at the end)."""
    count = len(order.groups)
    hashes = key(Purpose.ORDER, order.seed, epoch, -1, np.arange(count))
    permuted = np.argsort(hashes, kind="stable")
    return permuted, np.concatenate([[0], np.cumsum(order._kept()[permuted])])


@lru_cache(maxsize=8)
def _window(order: Order, epoch: int, window: int) -> np.ndarray:
    """The mixed rows of one window of an epoch."""
    permuted, begins = _group_order(order, epoch)
    start, stop = window * order.window, min((window + 1) * order.window, len(order))
    first = int(np.searchsorted(begins, start, side="right")) - 1
    last = int(np.searchsorted(begins, stop, side="left"))
    rows = np.concatenate([order._group_rows(int(g)) for g in permuted[first:last]])
    rows = rows[start - begins[first] : stop - begins[first]]
    hashes = key(Purpose.ORDER, order.seed, epoch, rows)
    return rows[np.argsort(hashes, kind="stable")]
