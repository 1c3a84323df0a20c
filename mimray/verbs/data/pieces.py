"""Many small pieces of a sample of pictures: what `mimray data clusters` clusters.

Threads decode: 2,000 pictures take seconds, about as long as a Ray takes to start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from mimray.data.crop import centre_crop, cut
from mimray.data.decode import Unreadable, decode
from mimray.data.inspect import SAMPLE_BYTES, whole_groups
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.hashing import Purpose, key
from mimray.mim.normalisation import normalise
from mimray.mim.targets.patches import standardise
from mimray.recipe import Model
from mimray.verbs.data.progress import Progress

_SIDE = int(Model.model_fields["image_size"].default)  # pixels, that pictures are scaled to
_PIXELS = 8192  # of each picture that are looked at; in patches that may overlap
_MOST_PIECES = 256  # of each picture
_FEWEST_GROUPS = 8
_READ = 64  # pictures read at a time


def sample(source: Source, count: int, seed: int) -> np.ndarray:
    """`count` rows whose hash of (seed, row) is smallest: int64, ascending.

    A row group is read as a whole, so where they would touch more than SAMPLE_BYTES of groups, some
    groups are chosen by their hash, and the rows among theirs.
    """
    groups, starts = len(source.groups), np.concatenate([[0], np.cumsum(source.groups)])
    group_bytes = sum(size for _, size, _ in source.parts()) / groups
    most = max(_FEWEST_GROUPS, int(SAMPLE_BYTES / max(1, group_bytes)))
    rows = RowSet.smallest(len(source), count, Purpose.CLUSTERS, seed).rows()
    if len(np.unique(np.searchsorted(starts, rows, side="right"))) <= most:
        return rows
    chosen = RowSet.smallest(groups, most, Purpose.CLUSTERS, seed, -1).rows()
    rows = np.concatenate([np.arange(starts[g], starts[g + 1]) for g in chosen])
    hashes = key(Purpose.CLUSTERS, seed, rows)
    return np.sort(rows[np.argsort(hashes, kind="stable")[:count]])


def decoded(source: Source, rows: np.ndarray, patch: int, seed: int) -> list[np.ndarray]:
    """`cut_out` of every row that can be read, in order."""
    progress, blocks, done = Progress(len(rows), patience=2.0, plain=False), [], 0
    try:
        for part in _in_threads(source, rows, patch, seed):
            blocks += [block for block in part if block is not None]
            done += len(part)
            progress.show(done)
    finally:
        progress.clear()
    return blocks


def _in_threads(
    source: Source, rows: np.ndarray, patch: int, seed: int
) -> Iterator[list[np.ndarray | None]]:
    """What has been read is decoded by the machine's cores while the next is read."""
    waiting: list[Future[np.ndarray | None]] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for places in whole_groups(source, rows, _READ):
            part = rows[places]
            read = source.read(part)
            yield [future.result() for future in waiting]
            waiting = [
                pool.submit(cut_out, data, int(row), patch, seed)
                for row, data in zip(part, read, strict=True)
            ]
        yield [future.result() for future in waiting]


def cut_out(data: bytes, row: int, patch: int, seed: int) -> np.ndarray | None:
    """Patches from hashed places of a picture's centred square: uint8 (n, 3, patch, patch).

    A patch of 1 px is a colour. None where the picture cannot be read.
    """
    try:
        picture = decode(data)
    except Unreadable:
        return None
    picture = cut(picture, centre_crop(*picture.shape[:2]), _SIDE)
    patches = sliding_window_view(picture, (patch, patch), (0, 1))
    count = min(_MOST_PIECES, max(1, _PIXELS // patch**2))
    draws = key(Purpose.CLUSTERS, seed, row, np.arange(count))
    return patches[np.unravel_index(draws % np.prod(patches.shape[:2]), patches.shape[:2])]


def vectors(patches: Tensor) -> Tensor:
    """uint8 (n, 3, p, p) -> what is clustered: colours (n, 3), 0 to 255; or patches without their
    brightness and contrast (n, 3 * p * p), as the tokenizer sees them."""
    if patches.shape[-1] == 1:
        return patches.flatten(1).float()
    return standardise(normalise(patches).flatten(1))
