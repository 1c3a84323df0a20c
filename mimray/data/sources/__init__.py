"""Where pictures come from. A source knows its rows and reads some of them as bytes.

One format a file; `open_source` finds the right one from what lies at the URI.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import numpy as np
from pyarrow.fs import FileInfo

from mimray.data.files import list_files, resolve
from mimray.data.sources.folder import EXTENSIONS, FolderSource
from mimray.data.sources.parquet import ParquetSource
from mimray.errors import UserError

__all__ = ["Source", "open_source"]

BUILTIN = {"builtin:photos/train": "train", "builtin:photos/val": "val"}
_SPLITS = {"train": ("train",), "val": ("val", "validation", "test")}


class Source(Protocol):
    """Rows 0 .. len - 1 of undecoded pictures; small enough to be sent to every data task.

    `groups`: int64, how many consecutive rows are cheap to read together; they sum to the length.
    `digest`: hex; another digest is other data. `kind`: its name for people.
    """

    uri: str
    kind: str
    digest: str
    groups: np.ndarray

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> list[bytes]:
        """The pictures' bytes, in the order of `rows`. Raises RunFailed for a file that is gone."""
        ...

    def name(self, row: int) -> str:
        """What a person would look for: the picture's path."""
        ...


def open_source(uri: str, split: str = "train") -> Source:
    """Open what lies at a URI: Parquet files if there are any, else a folder of pictures.

    Of a folder with several splits (`train/...`, `train-00000-of-00004.parquet`, ...) only `split` is
    taken. Raises UserError, naming the URI, when nothing usable is there.
    """
    if uri.startswith("builtin:"):
        if uri not in BUILTIN:
            raise UserError(f"data: no {uri!r}; built in are {', '.join(BUILTIN)}")
        folder = Path(__file__).parents[2] / "photos"
        return open_source(f"{folder}/{BUILTIN[uri]}-*.parquet", BUILTIN[uri])
    filesystem, base, files = list_files(uri)
    named = files[0].path == resolve(uri)[1]  # this very file, whatever its name
    parquet = [f for f in files if f.extension.lower() == "parquet"]
    if parquet:
        return ParquetSource(
            uri, filesystem, base, parquet if named else _of_split(parquet, base, split)
        )
    pictures = [f for f in files if f.extension.lower() in EXTENSIONS]
    if not pictures:
        kinds = ", ".join(sorted({f.extension for f in files if f.extension})[:5]) or "no extension"
        raise UserError(
            f"{uri}: neither Parquet files nor pictures ({', '.join(EXTENSIONS)}) among its "
            f"{len(files)} files ({kinds})"
        )
    split_folders = all(_split_folder(f.path[len(base) :].lstrip("/")) for f in pictures)
    return FolderSource(
        uri, filesystem, base, _of_split(pictures, base, split) if split_folders else pictures
    )


def _of_split(files: list[FileInfo], base: str, split: str) -> list[FileInfo]:
    """The files of one split, where names tell splits apart; all files where they do not.

    Told by the first folder (`train/...`, as in ImageNet) or else, for Parquet, by the file's own
    name (`train-00000-of-00004.parquet`); a picture may be called anything.
    """
    splits = [_split_name(f.path[len(base) :].lstrip("/")) for f in files]
    if not any(splits):
        return files
    for name in _SPLITS[split]:
        own = [f for f, of in zip(files, splits, strict=True) if of == name]
        if own:
            return own
    found = ", ".join(sorted({s for s in splits if s}))
    raise UserError(f"{base}: no {split} split in it (found: {found}); name the files themselves")


def _split_folder(path: str) -> str | None:
    """The split that a relative path's first folder names."""
    match = re.match(r"(train|val|validation|test)(?=[-_./][^/]*/|/)", path)
    return match[1] if match else None


def _split_name(path: str) -> str | None:
    """The split that a relative path names, by its first folder or else by its file name."""
    own = re.match(r"(train|val|validation|test)(?=[-_.])", path.rsplit("/", 1)[-1])
    return _split_folder(path) or (own[1] if own else None)
