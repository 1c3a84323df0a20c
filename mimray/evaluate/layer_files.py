"""The files of frozen features: shards of every layer, and one file of each once all of them are there.

Each appears as a whole or not at all, so any number of processes may read and write them at once: what two
of them compute is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyarrow import fs

from mimray.data.files import atomic_file, write_atomic


class Features(NamedTuple):
    """`rows`: int64 (n,), ascending, of the pictures that can be read; `layers`: of each, float16
    (n, channels), mapped from a file."""

    rows: np.ndarray
    layers: dict[str, np.ndarray]


@dataclass(frozen=True)
class LayerFiles:
    """`place`: their folder; `shards`: how many a layer has."""

    place: Path
    shards: int

    def read(self, layers: Sequence[str]) -> Features | None:
        """The features, where all of `layers` are whole."""
        rows = self._rows()
        if rows is None:
            return None
        found = {name: array for name in layers if (array := self._layer(name, rows)) is not None}
        return Features(rows, found) if len(found) == len(layers) else None

    def unjoined(self, layers: Sequence[str]) -> list[str]:
        """Those of `layers` that have no file of their own yet, in order."""
        rows = self._rows()
        return [name for name in layers if rows is None or self._layer(name, rows) is None]

    # ----- shards -------------------------------------------------------------------------------------

    def shard(self, layer: str, number: int) -> np.ndarray | None:
        """The rows of a shard; None where its file is not there, or not as long as its header says."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(layer, number), "np") as file:
                rows: np.ndarray = file.get_tensor("rows")
                return rows
        except (OSError, SafetensorError):
            return None

    def write_shard(self, layer: str, number: int, rows: np.ndarray, values: np.ndarray) -> None:
        """`rows`: int64 (n,); `values`: float16 (n, channels), or empty where n is 0."""
        from safetensors.numpy import save

        data = save({"rows": rows, "values": values})
        write_atomic(fs.LocalFileSystem(), str(self._file(layer, number)), data)

    def remove_shards(self, layers: Sequence[str]) -> None:
        """Of layers that have a file now."""
        for name in layers:
            for number in range(self.shards):
                self._file(name, number).unlink(missing_ok=True)

    def _values(self, layer: str, number: int) -> np.ndarray:
        from safetensors import safe_open

        with safe_open(self._file(layer, number), "np") as file:
            values: np.ndarray = file.get_tensor("values")
            return values

    def _file(self, layer: str, number: int) -> Path:
        return self.place / f"{_plain(layer)}.{number:05d}.safetensors"

    # ----- a file a layer -----------------------------------------------------------------------------

    def join(self, layer: str) -> int | None:
        """Make one file of a layer's shards, with one shard in memory at a time; how many rows it has, or
        None where shards are missing, which another process may have joined and removed meanwhile."""
        with suppress(FileNotFoundError):
            found = [self.shard(layer, number) for number in range(self.shards)]
            parts = [rows for rows in found if rows is not None]
            if len(parts) < self.shards:
                return None
            rows = np.concatenate(parts)
            filled = [number for number, part in enumerate(parts) if len(part)]
            if filled:
                channels = self._values(layer, filled[0]).shape[1]
                pieces = (self._values(layer, number) for number in filled)
                _save(self._joined(layer, rows), pieces, (len(rows), channels), np.float16)
                self._keep_rows(rows)
            return len(rows)
        return None

    def _keep_rows(self, rows: np.ndarray) -> None:
        known = self._rows()
        if known is None or not np.array_equal(known, rows):
            _save(self.place / "rows.npy", [rows], rows.shape, rows.dtype)

    def _rows(self) -> np.ndarray | None:
        """Of the pictures that can be read; None where they are not known yet."""
        try:
            rows: np.ndarray = np.load(self.place / "rows.npy")
        except (OSError, ValueError, EOFError):
            return None
        return rows

    def _layer(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        """A layer's features of `rows`; None where their file is not there, or not whole."""
        try:
            found: np.ndarray = np.load(self._joined(name, rows), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return found if found.ndim == 2 and len(found) == len(rows) else None

    def _joined(self, name: str, rows: np.ndarray) -> Path:
        """It is named by its rows too, so that features are never taken for those of other pictures."""
        digest = hashlib.sha256(rows.tobytes()).hexdigest()[:8]
        return self.place / f"{_plain(name)}-{digest}.npy"


def _save(
    path: Path, pieces: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.typing.DTypeLike
) -> None:
    """Write arrays one after the other as one NumPy file."""
    with atomic_file(fs.LocalFileSystem(), str(path)) as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)


def _plain(layer: str) -> str:
    return layer.replace(" ", "-")
