"""A folder of pictures, with or without class folders inside."""

from __future__ import annotations

import hashlib

import numpy as np
from pyarrow import fs

from mimray.data.files import Seen, each, read_unchanged, seen
from mimray.data.node_cache import NodeCache

# GIF, BMP and TIFF are no formats of ours, but leaving them out in silence would hide them.
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


class FolderSource:
    """Satisfies `Source`: one row a file, in order of path.

    Its classes are the folders at `depth` below `base`, if every picture lies in one.
    """

    kind = "folder of pictures"

    def __init__(
        self,
        uri: str,
        filesystem: fs.FileSystem,
        base: str,
        files: list[fs.FileInfo],
        depth: int = 0,
    ) -> None:
        self.uri, self.filesystem, self.base, self.depth = uri, filesystem, base, depth
        self.cache: NodeCache | None = None  # of no use: a file is read once an epoch
        paths = [f.path[len(base) :].lstrip("/") for f in files]
        packed = [path.encode() for path in paths]  # strings by the million are slow to send
        self.names = b"".join(packed)
        self.name_ends = np.cumsum([0, *map(len, packed)], dtype=np.int64)
        self.sizes = np.array([f.size for f in files], dtype=np.int64)
        then = [seen(filesystem, f) for f in files]
        self.host = next((one.host for one in then if one), "")
        self.mtimes = np.array([one.mtime_ns if one else -1 for one in then], dtype=np.int64)
        sizes = "\n".join(f"{path} {size}" for path, size, _ in self.parts())
        self.digest = hashlib.sha256(sizes.encode()).hexdigest()[:16]
        self.groups = np.ones(len(files), dtype=np.int64)  # a file is as near as any other
        classed = all(path.count("/") > depth for path in paths)
        self.classes = sorted({self._class(path) for path in paths}) if classed else None

    def _class(self, path: str) -> str:
        return path.split("/", self.depth + 1)[self.depth]

    def _paths(self) -> list[str]:
        return [self.name(row) for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.sizes)

    def _read_one(self, row: int) -> bytes:
        path, mtime = f"{self.base}/{self.name(row)}", int(self.mtimes[row])
        then = Seen(mtime, self.host) if mtime >= 0 else None
        return read_unchanged(
            self.filesystem, path, int(self.sizes[row]), lambda file: bytes(file.read()), then
        )

    def read(self, rows: np.ndarray) -> list[bytes]:
        return each(self.filesystem, self._read_one, rows)

    def name(self, row: int) -> str:
        return self.names[self.name_ends[row] : self.name_ends[row + 1]].decode()

    def labels(self) -> np.ndarray | None:
        if self.classes is None:
            return None
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[self._class(path)] for path in self._paths()], dtype=np.int64)

    def parts(self) -> list[tuple[str, int, int]]:
        return [
            (path, size, 1) for path, size in zip(self._paths(), self.sizes.tolist(), strict=True)
        ]
