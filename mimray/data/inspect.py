"""What a source holds: counts of its classes, and a closer look at a sample of its pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mimray.data.decode import Unreadable, decode
from mimray.data.exif import orientation
from mimray.data.headers import mode
from mimray.data.sheet import thumbnail
from mimray.data.sources import Source

SAMPLE_BYTES = 2**30  # of row groups that are read for a sample
_FEWEST_GROUPS = 8
_READ = 64  # pictures read at a time
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_MODES = {
    "L": "grey",
    "LA": "grey with alpha",
    "RGBA": "RGB with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "1": "one bit",
    "I;16": "grey of 16 bits",
}


@dataclass(frozen=True)
class Look:
    """One picture. `format` is told by content; `reason`: why it cannot be used, or "".

    `width`, `height` (pixels, as stored), `mode` and `turned` (a camera noted a rotation) are known
    of readable pictures only. `thumbnail`: uint8 (cell, cell, 3) where one was asked for.
    """

    row: int
    size: int
    format: str
    reason: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    thumbnail: np.ndarray | None = None


def rows_to_look_at(source: Source, count: int | None) -> np.ndarray:
    """Rows spread evenly over a source, int64, ascending; all of them where `count` is None.

    A row group is read as a whole, so where the rows would touch more than SAMPLE_BYTES of groups,
    fewer groups are chosen, evenly, and several rows taken from each.
    """
    total, groups = len(source), source.groups
    if count is None or count >= total:
        return np.arange(total)
    starts = np.concatenate([[0], np.cumsum(groups)])
    rows = evenly(total, count)
    group_bytes = sum(size for _, size, _ in source.parts()) / len(groups)
    most = max(_FEWEST_GROUPS, int(SAMPLE_BYTES / max(1, group_bytes)))
    if len(np.unique(np.searchsorted(starts, rows, side="right"))) <= most:
        return rows
    centres = evenly(total, most)
    group = np.searchsorted(starts, centres, side="right") - 1
    first, size = starts[group][:, None], groups[group][:, None]
    take = -(-count // most)
    steps = np.arange(take) * size // take
    return np.unique(first + (centres[:, None] - first + steps) % size)


def evenly(total: int, count: int) -> np.ndarray:
    """`count` places spread evenly over 0 .. total - 1: int64, ascending."""
    return ((np.arange(count) + 0.5) * total / count).astype(np.int64)


def look_at(
    source: Source, rows: np.ndarray, shown: frozenset[int] = frozenset(), cell: int = 0
) -> Iterator[list[Look]]:
    """Read and decode rows (ascending), some at a time, in order.

    The machine's cores decode what has been read while the next are read. Of the rows in `shown` a
    thumbnail of `cell` pixels is kept.
    """
    waiting: list[Future[Look]] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for places in whole_groups(source, rows, _READ):
            part = rows[places]
            read = source.read(part)
            if waiting:
                yield [future.result() for future in waiting]
            waiting = [
                pool.submit(look, row, data, cell if row in shown else 0)
                for row, data in zip(part.tolist(), read, strict=True)
            ]
        yield [future.result() for future in waiting]


def whole_groups(source: Source, rows: np.ndarray, least: int) -> Iterator[slice]:
    """Cut ascending rows into pieces of at least `least` rows (the last may be shorter).

    A row group is never cut, for the source reads all of it whenever it is asked for a part.
    """
    group = np.searchsorted(np.cumsum(source.groups), rows, side="right")
    start = 0
    for stop in [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(rows)]:
        if stop - start >= least or stop == len(rows):
            yield slice(start, stop)
            start = stop


def look(row: int, data: bytes, cell: int = 0) -> Look:
    """Decode one picture as strictly as a run does, and note what it is."""
    kind = format_of(data)
    try:
        pixels = decode(data)
    except Unreadable as error:
        return Look(row, len(data), kind, error.reason)
    height, width, _ = pixels.shape
    stored, turned = mode(data), orientation(data) != 1
    picture = thumbnail(pixels, cell) if cell else None
    name = _MODES.get(stored, stored)
    return Look(row, len(data), kind, "", name, width, height, turned, picture)


def format_of(data: bytes) -> str:
    """The format that the first bytes announce, or "other"."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), "other")


def share_interval(bad: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share, from a sample: Wilson's, widened where damage comes in groups.

    `bad`: bool (n,); `group`: the row group of each. Pictures of one group tell less than as many
    independent ones, so n is divided by the design effect: the variance between groups over that of
    independent draws (Kish, Survey Sampling, 1965).
    """
    count, share = len(bad), float(bad.mean())
    _, place, sizes = np.unique(group, return_inverse=True, return_counts=True)
    effect = 1.0
    if 0 < share < 1 and 1 < len(sizes) < count:
        off = np.bincount(place, weights=bad) - share * sizes
        between = len(sizes) / (len(sizes) - 1) * float((off**2).sum()) / count
        effect = max(1.0, between / (share * (1 - share)))
    n, z = count / effect, 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    # where nothing was found they are equal but for rounding
    return (max(0.0, centre - half) if share else 0.0), min(1.0, centre + half)


def in_class_order(labels: np.ndarray, window: int) -> bool:
    """Whether neighbours are mostly of one class, so that mixing within a window does not mix them."""
    classes = len(np.unique(labels))
    if classes < 2 or len(labels) <= window:
        return False
    changes = np.count_nonzero(np.diff(labels)) / (len(labels) - 1)
    return bool(changes < 0.1 * (1 - 1 / classes))
