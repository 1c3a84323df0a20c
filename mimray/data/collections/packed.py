"""Files of fixed-size records: some bytes of labels, then the raw pixels of one picture."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import fs

from mimray.data.files import read_unchanged, seen
from mimray.data.node_cache import NodeCache
from mimray.errors import UserError

_GROUP = 128  # records, about 400 KB of 32 x 32 pixels


class PackedSource:
    """Satisfies `Source`: a row a record, read as PNG, which keeps every pixel.

    A record is `label_bytes` bytes, of which the last is the label, and `side` x `side` pixels: all
    red, all green, all blue, each row by row.
    """

    kind = "packed pixels"

    def __init__(
        self,
        folder: str,
        files: list[fs.FileInfo],
        side: int,
        label_bytes: int,
        classes: list[str],
    ) -> None:
        self.uri, self.side = folder, side
        self.classes: list[str] | None = classes
        self.filesystem = fs.LocalFileSystem()
        self.cache: NodeCache | None = None  # of no use: records are read one by one
        self.label_bytes, self.record = label_bytes, label_bytes + 3 * side * side
        for file in files:
            if file.size == 0 or file.size % self.record:
                raise UserError(
                    f"{file.path}: {file.size:,} bytes are not a whole number of records of "
                    f"{self.record:,}; fetch the archive again"
                )
        self.files = [(file.path, file.size, seen(self.filesystem, file)) for file in files]
        records = [file.size // self.record for file in files]
        self.starts = np.cumsum([0, *records], dtype=np.int64)
        self.groups = np.array([n for rows in records for n in _groups(rows)], dtype=np.int64)
        self.given = np.concatenate([self._labels_of(file.path) for file in files])
        told = "\n".join(f"{path} {size}" for path, size, _ in self.parts())
        self.digest = hashlib.sha256(told.encode() + self.given.tobytes()).hexdigest()[:16]

    def _labels_of(self, path: str) -> np.ndarray:
        try:
            content = np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        return np.array(content[self.label_bytes - 1 :: self.record])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: np.ndarray) -> list[bytes]:
        wanted = np.asarray(rows, dtype=np.int64)
        number = np.searchsorted(self.starts, wanted, side="right") - 1
        out: list[bytes] = [b""] * len(wanted)
        for which in np.unique(number).tolist():
            places = np.flatnonzero(number == which)
            offsets = (wanted[places] - self.starts[which]) * self.record
            for place, record in zip(places, self._records(which, offsets), strict=True):
                out[place] = self._png(record)
        return out

    def _records(self, number: int, offsets: np.ndarray) -> list[bytes]:
        def read(file: pa.NativeFile) -> list[bytes]:
            return [bytes(file.read_at(self.record, offset)) for offset in offsets.tolist()]

        path, size, then = self.files[number]
        return read_unchanged(self.filesystem, path, size, read, then)

    def _png(self, record: bytes) -> bytes:
        planes = np.frombuffer(record, np.uint8, offset=self.label_bytes)
        pixels = planes.reshape(3, self.side, self.side).transpose(1, 2, 0)
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def name(self, row: int) -> str:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.parts()[number][0]} record {row - int(self.starts[number])}"

    def labels(self) -> np.ndarray | None:
        return self.given.astype(np.int64)

    def parts(self) -> list[tuple[str, int, int]]:
        return [(Path(path).name, size, size // self.record) for path, size, _ in self.files]


def _groups(records: int) -> list[int]:
    whole, rest = divmod(records, _GROUP)
    return [_GROUP] * whole + [rest] * bool(rest)
