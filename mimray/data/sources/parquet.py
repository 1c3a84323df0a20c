"""Parquet in the Hugging Face image layout: column `image` = struct<bytes, path> (or plain binary)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mimray.errors import RunFailed, UserError

_CACHE_BYTES = 256 * 2**20


class ParquetSource:
    """Satisfies `Source`. Opening it reads the footers only; row groups are its groups."""

    kind = "Parquet"

    def __init__(
        self, uri: str, filesystem: fs.FileSystem, base: str, files: list[fs.FileInfo]
    ) -> None:
        self.uri, self.filesystem, self.base = uri, filesystem, base
        self.paths = [f.path for f in files]
        digest = hashlib.sha256()
        groups: list[int] = []
        self.group_file: list[tuple[int, int]] = []  # of each group: (file, row group in it)
        for number, info in enumerate(files):
            footer = self._footer(info.path)
            sizes = [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]
            self.group_file += [(number, g) for g, size in enumerate(sizes) if size]
            groups += [size for size in sizes if size]
            digest.update(f"{self._relative(info.path)} {info.size} {sizes}\n".encode())
        self.digest = digest.hexdigest()[:16]
        self.groups = np.array(groups, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.groups)])
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def _relative(self, path: str) -> str:
        return path[len(self.base) :].lstrip("/")

    def _footer(self, path: str) -> pq.FileMetaData:
        try:
            with self.filesystem.open_input_file(path) as file:
                parquet = pq.ParquetFile(file)
                schema = parquet.schema_arrow
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: not a readable Parquet file: {error}") from None
        kind = schema.field("image").type if "image" in schema.names else None
        if kind is None or not (_is_binary(kind) or _has_bytes(kind)):
            found = "image is " + str(kind) if kind is not None else ", ".join(schema.names)
            raise UserError(f"{path}: no column image: struct<bytes, path> in it (found: {found})")
        return parquet.metadata

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_cache": OrderedDict()}

    def _group(self, group: int) -> pa.Array:
        """The `image` column of one row group; the latest ones used stay in memory."""
        if group not in self._cache:
            number, inner = self.group_file[group]
            try:
                with self.filesystem.open_input_file(self.paths[number]) as file:
                    table = pq.ParquetFile(file).read_row_group(inner, columns=["image"])
            except (OSError, pa.ArrowException) as error:
                raise RunFailed(f"{self.paths[number]}: cannot be read any more: {error}") from None
            self._cache[group] = table
            while (
                len(self._cache) > 1 and sum(t.nbytes for t in self._cache.values()) > _CACHE_BYTES
            ):
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group].column("image").combine_chunks()

    def read(self, rows: np.ndarray) -> list[bytes]:
        wanted = np.asarray(rows)
        groups = np.searchsorted(self.starts, wanted, side="right") - 1
        out: list[bytes] = [b""] * len(wanted)
        for group in np.unique(groups):
            column = self._group(int(group))
            data = column if _is_binary(column.type) else column.field("bytes")
            for place in np.flatnonzero(groups == group):
                out[place] = data[int(wanted[place] - self.starts[group])].as_py() or b""
        return out

    def name(self, row: int) -> str:
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        column = self._group(group)
        inner = row - int(self.starts[group])
        path = None if _is_binary(column.type) else column.field("path")[inner].as_py()
        return path or f"{self._relative(self.paths[self.group_file[group][0]])} row {row}"


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_bytes(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    names = [kind.field(i).name for i in range(kind.num_fields)]
    return "bytes" in names and "path" in names and _is_binary(kind.field("bytes").type)
