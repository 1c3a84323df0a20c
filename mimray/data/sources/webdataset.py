"""WebDataset: tars whose members of one key (`0001.jpg`, `0001.cls`) are one sample."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from pyarrow import fs

from mimray.data.files import each, is_local, read_unchanged, seen
from mimray.data.node_cache import NodeCache, cache_key
from mimray.data.sources.tar_index import fingerprint, open_index, unpack_names
from mimray.errors import UserError

_CHUNK = 64  # pictures of a group at most
_CHUNK_BYTES = 32 * 2**20  # and its bytes, whatever else lies between them


class WebDatasetSource:
    """Satisfies `Source`: one row a picture, in order of path and then of place in the tar.

    A picture is a member whose extension, all that follows its name's first dot, is a picture's
    (`0001.jpg`, not `0001.mask.png`); its label stands in the `.cls` member of the same key, in
    decimal. Groups are pieces of a tar: consecutive pictures that one request can fetch.
    """

    kind = "WebDataset"
    classes: list[str] | None = None  # a tar has only their numbers

    def __init__(
        self, uri: str, filesystem: fs.FileSystem, base: str, files: list[fs.FileInfo]
    ) -> None:
        self.uri, self.filesystem, self.base = uri, filesystem, base
        self.cache: NodeCache | None = None
        self.files = [(f.path, f.size, seen(filesystem, f)) for f in files]
        store = f"{filesystem.type_name} {uri.partition('?')[2]}"
        with ThreadPoolExecutor(16) as pool:
            indices = list(pool.map(lambda f: open_index(filesystem, f, store), files))
        counts = [len(index.sizes) for index in indices]
        if not sum(counts):
            raise UserError(f"{uri}: no pictures in its {len(files)} tars")
        self.offsets = np.concatenate([index.offsets for index in indices])
        self.sizes = np.concatenate([index.sizes for index in indices])
        self.label = np.concatenate([index.labels for index in indices])
        self.names = np.concatenate([index.names for index in indices])
        self.name_ends = np.cumsum([len(index.names) for index in indices])
        self.tar_starts = np.concatenate([[0], np.cumsum(counts)])
        self._named: tuple[int, list[str]] = (-1, [])  # the tar asked about last, and its names
        self.groups = np.concatenate([_groups(i.offsets, i.sizes) for i in indices])
        self.starts = np.concatenate([[0], np.cumsum(self.groups)])
        digest = hashlib.sha256()
        for (path, size, rows), index in zip(self.parts(), indices, strict=True):
            digest.update(f"{path} {size} {rows}\n".encode() + fingerprint(index))
        self.digest = digest.hexdigest()[:16]
        self._key = cache_key(uri, base, self.digest)

    def __len__(self) -> int:
        return len(self.offsets)

    def _tar_of(self, row: int) -> int:
        return int(np.searchsorted(self.tar_starts, row, side="right")) - 1

    def read(self, rows: np.ndarray) -> list[bytes]:
        wanted = np.asarray(rows, dtype=np.int64)
        out: list[bytes] = [b""] * len(wanted)
        local = is_local(self.filesystem)
        pieces = self.tar_starts if local else self.starts
        near = np.searchsorted(pieces, wanted, side="right") - 1

        def fill(piece: int) -> None:
            places = np.flatnonzero(near == piece)
            read = self._from_tar if local else self._from_group
            for place, data in zip(places, read(piece, wanted[places]), strict=True):
                out[place] = data

        each(self.filesystem, fill, np.unique(near).tolist())
        return out

    def _from_tar(self, tar: int, rows: np.ndarray) -> list[bytes]:
        """Of a local tar, each picture by itself."""
        path, size, then = self.files[tar]
        places = zip(self.sizes[rows].tolist(), self.offsets[rows].tolist(), strict=True)

        def read(file: pa.NativeFile) -> list[bytes]:
            return [file.read_at(length, offset) for length, offset in places]

        return read_unchanged(self.filesystem, path, size, read, then)

    def _from_group(self, group: int, rows: np.ndarray) -> list[bytes]:
        """Of a tar in a store: the whole group at once for the cache, or else what spans the rows."""
        if self.cache is None:
            first, last = int(rows.min()), int(rows.max())
            data = self._span(first, last)
        else:
            first, last = int(self.starts[group]), int(self.starts[group + 1]) - 1
            data = self.cache.fetch(f"{self._key}-{group}", lambda: self._span(first, last))
        begins = (self.offsets[rows] - self.offsets[first]).tolist()
        lengths = self.sizes[rows].tolist()
        return [data.slice(b, n).to_pybytes() for b, n in zip(begins, lengths, strict=True)]

    def _span(self, first: int, last: int) -> pa.Buffer:
        """What lies in a tar from one row's picture to the end of another's."""
        path, size, then = self.files[self._tar_of(first)]
        begin, end = int(self.offsets[first]), int(self.offsets[last] + self.sizes[last])

        def read(file: pa.NativeFile) -> pa.Buffer:
            file.seek(begin)
            return file.read_buffer(end - begin)

        return read_unchanged(self.filesystem, path, size, read, then)

    def name(self, row: int) -> str:
        tar = self._tar_of(row)
        named, names = self._named
        if named != tar:
            begin = self.name_ends[tar - 1] if tar else 0
            names = unpack_names(self.names[begin : self.name_ends[tar]])
            self._named = tar, names
        return f"{self._relative(tar)}/{names[row - int(self.tar_starts[tar])]}"

    def _relative(self, tar: int) -> str:
        return self.files[tar][0][len(self.base) :].lstrip("/")

    def labels(self) -> np.ndarray | None:
        return self.label.astype(np.int64) if (self.label >= 0).any() else None

    def parts(self) -> list[tuple[str, int, int]]:
        rows = np.diff(self.tar_starts).tolist()
        return [(self._relative(i), size, rows[i]) for i, (_, size, _) in enumerate(self.files)]


def _groups(offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Lengths of runs of pictures, each at most `_CHUNK` long and `_CHUNK_BYTES` wide, or one."""
    ends = offsets + sizes
    bounds = [0]
    while bounds[-1] < len(offsets):
        first = bounds[-1]
        fitting = int(np.searchsorted(ends, offsets[first] + _CHUNK_BYTES, side="right"))
        bounds.append(min(max(fitting, first + 1), first + _CHUNK, len(offsets)))
    return np.diff(bounds).astype(np.int64)
