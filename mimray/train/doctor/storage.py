"""How quickly this host writes, reads and decodes: some megabytes each, and nothing stays."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass

import numpy as np

from mimray.data.files import is_local, join, read_bytes, resolve, write_atomic
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import Source
from mimray.train.doctor.demand import Decoding

_BYTES = 16 * 2**20
_PICTURES = 64  # enough for a rate that varies by some percent


def time_storage(uri: str) -> tuple[float, float]:
    """Bytes a second to and from a folder. The file that is written for it is removed."""
    filesystem, path = resolve(join(uri, f".doctor-{secrets.token_hex(4)}"))
    data = secrets.token_bytes(_BYTES)  # a store may compress, or keep one of two that are equal
    try:
        began = time.perf_counter()
        write_atomic(filesystem, path, data)
        written = time.perf_counter()
        if is_local(filesystem):
            _forget(path)
        asked = time.perf_counter()
        read_bytes(filesystem, path)
        took = time.perf_counter() - asked
    finally:
        if filesystem.get_file_info(path).is_file:
            filesystem.delete_file(path)
    return _BYTES / (written - began), _BYTES / took


def _forget(path: str) -> None:
    """Out of the page cache, which would be measured instead."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def time_pictures(source: Source, place: float) -> float:
    """Bytes a second of rows in a row, from a `place` in 0 .. 1 of the source on."""
    began = time.perf_counter()
    read = sum(map(len, source.read(_some_rows(source, place, _BYTES))))
    return read / (time.perf_counter() - began)


def time_decoding(source: Source, framing: Framing) -> Decoding:
    """On one CPU, pictures that have been read before the clock starts."""
    rows = np.linspace(0, len(source) - 1, min(_PICTURES, len(source))).astype(np.int64)
    held = _Held(dict(zip(rows.tolist(), source.read(rows), strict=True)))

    def load(some: np.ndarray) -> float:
        none = np.empty((len(some), 0), dtype=np.int64)
        began = time.perf_counter()
        load_block(held, Block(some, np.zeros_like(some), none), framing)  # type: ignore[arg-type]
        return time.perf_counter() - began

    load(rows[:2])  # libraries are loaded at the first
    seconds = load(rows)
    size = sum(map(len, held.pictures.values())) / len(rows)
    return Decoding(len(rows) / seconds, size)


@dataclass
class _Held:
    """Pictures in memory, read as a source's: all that `load_block` wants of it."""

    pictures: dict[int, bytes]

    def read(self, rows: np.ndarray) -> list[bytes]:
        return [self.pictures[row] for row in rows.tolist()]


def _some_rows(source: Source, place: float, size: int) -> np.ndarray:
    """Whole row groups, for a part is not read by itself; of about `size` bytes, and one at least."""
    bytes_a_row = max(1.0, sum(part for _, part, _ in source.parts()) / len(source))
    ends = np.cumsum(source.groups)
    first = int(place * (len(ends) - 1))
    start = int(ends[first] - source.groups[first])
    last = int(np.searchsorted(ends, start + size / bytes_a_row))
    stop = int(ends[min(max(last, first), len(ends) - 1)])
    return np.arange(start, stop)
