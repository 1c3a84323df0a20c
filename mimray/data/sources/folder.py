"""A folder of pictures, with or without class folders inside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pyarrow import ArrowException, fs

from mimray.errors import RunFailed

# GIF, BMP and TIFF are no formats of ours, but leaving them out in silence would hide them.
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_GROUP = 256  # files have no neighbours; this only bounds what the order has to permute


class FolderSource:
    """Satisfies `Source`: one row a file, in order of path."""

    kind = "folder of pictures"

    def __init__(
        self, uri: str, filesystem: fs.FileSystem, base: str, files: list[fs.FileInfo]
    ) -> None:
        self.uri, self.filesystem, self.base = uri, filesystem, base
        self.paths = [f.path[len(base) :].lstrip("/") for f in files]
        sizes = "\n".join(f"{p} {f.size}" for p, f in zip(self.paths, files, strict=True))
        self.digest = hashlib.sha256(sizes.encode()).hexdigest()[:16]
        count = len(files)
        self.groups = np.minimum(_GROUP, count - np.arange(0, count, _GROUP)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def _read_one(self, row: int) -> bytes:
        path = f"{self.base}/{self.paths[row]}"
        try:
            with self.filesystem.open_input_stream(path) as file:
                return bytes(file.read())
        except (OSError, ArrowException) as error:
            raise RunFailed(f"{path}: cannot be read any more: {error}") from None

    def read(self, rows: Sequence[int]) -> list[bytes]:
        if isinstance(self.filesystem, fs.LocalFileSystem):
            return [self._read_one(row) for row in rows]
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self._read_one, rows))

    def name(self, row: int) -> str:
        return self.paths[row]
