"""Parquet in the Hugging Face image layout: column `image` = struct<bytes, path> (or plain binary)."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mimray.data.files import Seen, each, read_unchanged, seen
from mimray.data.node_cache import NodeCache, cache_key
from mimray.errors import UserError

_TAIL = 64 * 2**10  # bytes


class _File(NamedTuple):
    path: str
    size: int
    then: Seen | None
    footer: bytes  # its SHA-256
    groups: list[int]  # rows of every row group, empty ones too
    named: bool  # whether every picture has a path beside its bytes
    labelled: bool
    classes: list[str] | None


class ParquetSource:
    """Satisfies `Source`. Opening it reads the footers only; row groups are its groups."""

    kind = "Parquet"

    def __init__(
        self, uri: str, filesystem: fs.FileSystem, base: str, files: list[fs.FileInfo]
    ) -> None:
        self.uri, self.filesystem, self.base = uri, filesystem, base
        self.cache: NodeCache | None = None
        self.files = each(filesystem, self._open, files)
        self.classes = next((f.classes for f in self.files if f.classes), None)
        digest = hashlib.sha256()
        for file in self.files:
            told = f"{self._relative(file.path)} {file.size} {file.groups}\n"
            digest.update(told.encode() + file.footer)
        self.digest = digest.hexdigest()[:16]
        self._key = cache_key(uri, base, self.digest)
        self.group_file = [  # of each group: (file, row group in it)
            (number, inner)
            for number, file in enumerate(self.files)
            for inner, rows in enumerate(file.groups)
            if rows
        ]
        self.groups = np.array([rows for f in self.files for rows in f.groups if rows], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.groups)])
        self._named: tuple[int, list[str | None]] = (
            -1,
            [],
        )  # the group asked about last, its names

    def _relative(self, path: str) -> str:
        return path[len(self.base) :].lstrip("/")

    def _open(self, info: fs.FileInfo) -> _File:
        try:
            with self.filesystem.open_input_file(info.path) as file:
                tail = _footer(file, info.size)
            parquet = pq.ParquetFile(pa.BufferReader(tail))
            schema, footer = parquet.schema_arrow, parquet.metadata
        except (OSError, pa.ArrowException) as error:
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{info.path}: not a readable Parquet file: {line}") from None
        kind = schema.field("image").type if "image" in schema.names else None
        if kind is None or not (_is_binary(kind) or _has_bytes(kind)):
            found = "image is " + str(kind) if kind is not None else ", ".join(schema.names)
            raise UserError(
                f"{info.path}: no column image: struct<bytes, path> in it (found: {found})"
            )
        groups = [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]
        labelled = "label" in schema.names and pa.types.is_integer(schema.field("label").type)
        return _File(
            info.path,
            info.size,
            seen(self.filesystem, info),
            hashlib.sha256(tail).digest(),
            groups,
            _has_bytes(kind),
            labelled,
            _class_names(schema),
        )

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _column(self, group: int, column: str) -> pa.ChunkedArray:
        """A column, or a field of one (`image.path`), of a row group, read from its file."""
        number, inner = self.group_file[group]
        path, size, then, *_ = self.files[number]

        def read(file: pa.NativeFile) -> pa.Table:
            parquet = pq.ParquetFile(file, pre_buffer=True)  # a store gives it in one request
            return parquet.read_row_group(inner, columns=[column])

        return read_unchanged(self.filesystem, path, size, read, then).column(0)

    def _pictures(self, group: int) -> pa.ChunkedArray:
        """The `image` column of a row group; with a cache, read once a host."""
        if self.cache is None:
            return self._column(group, "image")
        data = self.cache.fetch(
            f"{self._key}-{group}", lambda: _to_ipc(self._column(group, "image"))
        )
        return pa.ipc.open_stream(data).read_all().column("image")

    def read(self, rows: np.ndarray) -> list[bytes]:
        wanted = np.asarray(rows, dtype=np.int64)
        groups = np.searchsorted(self.starts, wanted, side="right") - 1
        out: list[bytes] = [b""] * len(wanted)

        def fill(group: int) -> None:
            column = self._pictures(group)
            plain = _is_binary(column.type)
            for place in np.flatnonzero(groups == group):
                value = column[int(wanted[place] - self.starts[group])]
                if value.is_valid:
                    out[place] = (value if plain else value["bytes"]).as_py() or b""

        each(self.filesystem, fill, np.unique(groups).tolist())
        return out

    def name(self, row: int) -> str:
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        named, paths = self._named
        if named != group:
            paths = self._paths(group)
            self._named = group, paths
        file = self.files[self.group_file[group][0]]
        return paths[row - int(self.starts[group])] or f"{self._relative(file.path)} row {row}"

    def _paths(self, group: int) -> list[str | None]:
        if not self.files[self.group_file[group][0]].named:
            return [None] * int(self.groups[group])
        return [
            (value or {}).get("path") for value in self._column(group, "image.path").to_pylist()
        ]

    def labels(self) -> np.ndarray | None:
        if not any(file.labelled for file in self.files):
            return None
        return np.concatenate(each(self.filesystem, self._labels, self.files))

    def _labels(self, file: _File) -> np.ndarray:
        if not file.labelled:
            return np.full(sum(file.groups), -1, dtype=np.int64)
        table = read_unchanged(
            self.filesystem,
            file.path,
            file.size,
            lambda opened: pq.ParquetFile(opened).read(columns=["label"]),
            file.then,
        )
        labels = table.column("label").cast(pa.int64(), safe=False).fill_null(-1)
        return np.asarray(labels.to_numpy(), dtype=np.int64)

    def parts(self) -> list[tuple[str, int, int]]:
        return [(self._relative(f.path), f.size, sum(f.groups)) for f in self.files]


def _footer(file: pa.NativeFile, size: int) -> bytes:
    """The end of a file from the footer on, most often in one request.

    That is all that telling its rows takes, and it says where each of its pages lies.
    """
    tail = bytes(file.read_at(min(size, _TAIL), max(0, size - _TAIL)))
    length = int.from_bytes(tail[-8:-4], "little") + 8  # its own length and PAR1 stand last
    if len(tail) < length <= size:
        tail = bytes(file.read_at(length, size - length))
    return tail[-length:]


def _to_ipc(column: pa.ChunkedArray) -> pa.Buffer:
    table = pa.table({"image": column})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _class_names(schema: pa.Schema) -> list[str] | None:
    """Names of the classes as Hugging Face's `datasets` writes them into a schema."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_bytes(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    names = [kind.field(i).name for i in range(kind.num_fields)]
    return "bytes" in names and "path" in names and _is_binary(kind.field("bytes").type)
