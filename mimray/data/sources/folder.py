"""A folder of pictures, with or without class folders inside."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pyarrow import ArrowException, fs

from mimray.errors import RunFailed

# GIF, BMP and TIFF are no formats of ours, but leaving them out in silence would hide them.
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


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
        self.groups = np.ones(len(files), dtype=np.int64)  # a file is as near as any other

    def __len__(self) -> int:
        return len(self.paths)

    def _read_one(self, row: int) -> bytes:
        path = f"{self.base}/{self.paths[row]}"
        try:
            with self.filesystem.open_input_stream(path) as file:
                return bytes(file.read())
        except (OSError, ArrowException) as error:
            raise RunFailed(f"{path}: cannot be read any more: {error}") from None

    def read(self, rows: np.ndarray) -> list[bytes]:
        if isinstance(self.filesystem, fs.LocalFileSystem):
            return [self._read_one(row) for row in rows]
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self._read_one, rows))

    def name(self, row: int) -> str:
        return self.paths[row]
