"""Which rows a global batch holds: a pure function of (seed, epoch) and nothing else.

Row groups are permuted, laid end to end, and mixed within consecutive windows, so that a batch
touches the row groups of one window only. A window of the whole set is a true permutation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mimray.hashing import Purpose, key


def held_out(rows: int, fraction: float, seed: int) -> np.ndarray:
    """Rows that are never trained on: `fraction` of them, 64 to 5,000, never more than half.

    Those whose hash of (seed, row) is smallest, in ascending order: int64.
    """
    count = min(max(round(rows * fraction), 64), 5000, rows // 2)
    hashes = key(Purpose.HOLD_OUT, seed, np.arange(rows))
    return np.sort(np.argsort(hashes, kind="stable")[:count])


@dataclass(frozen=True, eq=False)
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

    def slice(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Rows at places start .. stop - 1 of an epoch, int64; touches their windows only."""
        first, last = start // self.window, (stop - 1) // self.window
        windows = [_window(self, epoch, number) for number in range(first, last + 1)]
        rows = windows[0] if len(windows) == 1 else np.concatenate(windows)
        return rows[start - first * self.window : stop - first * self.window]

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each group, and one past the last."""
        return np.concatenate([[0], np.cumsum(self.groups)])

    @cached_property
    def kept(self) -> np.ndarray:
        """How many rows of each group are not held out."""
        return self.groups - np.diff(np.searchsorted(self.excluded, self.starts))

    @cached_property
    def _identity(self) -> tuple[int, int, int, int]:
        content = hash(self.groups.tobytes()), hash(self.excluded.tobytes())
        return (*content, self.seed, self.window)

    def __hash__(self) -> int:  # for the caches below; arrays do not hash
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and self._identity == other._identity


@lru_cache(maxsize=4)
def _group_order(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Permuted groups, and where each one's rows begin in the epoch (one more at the end)."""
    hashes = key(Purpose.ORDER, order.seed, epoch, -1, np.arange(len(order.groups)))
    permuted = np.argsort(hashes, kind="stable")
    return permuted, np.concatenate([[0], np.cumsum(order.kept[permuted])])


@lru_cache(maxsize=8)
def _window(order: Order, epoch: int, window: int) -> np.ndarray:
    """The mixed rows of one window of an epoch."""
    permuted, begins = _group_order(order, epoch)
    start, stop = window * order.window, min((window + 1) * order.window, len(order))
    first = int(np.searchsorted(begins, start, side="right")) - 1
    last = int(np.searchsorted(begins, stop, side="left"))
    rows = _rows_of(order, permuted[first:last])[start - begins[first] : stop - begins[first]]
    return rows[np.argsort(key(Purpose.ORDER, order.seed, epoch, rows), kind="stable")]


def _rows_of(order: Order, groups: np.ndarray) -> np.ndarray:
    """The rows of some groups end to end, without those that are held out."""
    sizes = order.groups[groups]
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rows = np.arange(sizes.sum()) + np.repeat(order.starts[groups] - before, sizes)
    return rows[~np.isin(rows, order.excluded)]
