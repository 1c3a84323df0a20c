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
from mimray.data.node_cache import NodeCache
from mimray.data.sources.complete import require_complete
from mimray.data.sources.folder import EXTENSIONS, FolderSource
from mimray.data.sources.parquet import ParquetSource
from mimray.data.sources.webdataset import WebDatasetSource
from mimray.errors import UserError

__all__ = ["Source", "open_source"]

BUILTIN = {"builtin:photos/train": "train", "builtin:photos/val": "val"}
_SPLITS = {"train": ("train",), "val": ("val", "validation", "test")}
_PACKED_TAR = re.compile(r".*\.(tgz|tar\.\w+)", re.IGNORECASE)


class Source(Protocol):
    """Rows 0 .. len - 1 of undecoded pictures; small enough to be sent to every data task.

    `groups`: int64, how many consecutive rows are cheap to read together; they sum to the length.
    `digest`: hex; another digest is other data. `kind`: its name for people. `cache`: where a host
    keeps pieces that several tasks need; None to read them directly. `classes`: their names, where
    the source knows them.
    """

    uri: str
    kind: str
    digest: str
    groups: np.ndarray
    cache: NodeCache | None
    classes: list[str] | None

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> list[bytes]:
        """The pictures' bytes, in the order of `rows`.

        Raises RunFailed, naming the file, for one that is gone or has changed since the opening.
        """
        ...

    def name(self, row: int) -> str:
        """What a person would look for: the picture's path."""
        ...

    def labels(self) -> np.ndarray | None:
        """The class of every row: int64 (len,), -1 where unknown; None where the source has none."""
        ...

    def parts(self) -> list[tuple[str, int, int]]:
        """(relative path, bytes, rows) of every file, in order of path.

        The digest is made of them, of a tar's table of contents and of a Parquet file's footer.
        """
        ...


def open_source(uri: str, split: str = "train") -> Source:
    """Open what lies at a URI: Parquet files if there are any, else WebDataset tars, else pictures.

    Of a folder with several splits (`train/...`, `train-00000-of-00004.parquet`,
    `imagenet-train-000000.tar`, ...) only `split` is taken. Raises UserError, naming the URI, when
    nothing usable is there, or when shards are missing (see `require_complete`).
    """
    if uri.startswith("builtin:"):
        if uri not in BUILTIN:
            raise UserError(f"data: no {uri!r}; built in are {', '.join(BUILTIN)}")
        folder = Path(__file__).parents[2] / "photos"
        return open_source(f"{folder}/{BUILTIN[uri]}-*.parquet", BUILTIN[uri])
    filesystem, base, files = list_files(uri)
    path = resolve(uri)[1]
    named = files[0].path == path  # this very file, whatever its name

    def chosen(found: list[FileInfo]) -> list[FileInfo]:
        if named:
            return found
        own = _of_split(found, base, split)
        require_complete(uri, path, filesystem, base, own)
        return own

    tars = [f for f in files if f.extension.lower() == "tar"]
    beside = {f.path[: -len("tar")] for f in tars}  # img2dataset lays a table beside every tar
    parquet = [
        f
        for f in files
        if f.extension.lower() == "parquet" and f.path[: -len("parquet")] not in beside
    ]
    pictures = [f for f in files if f.extension.lower() in EXTENSIONS]
    packed = [f for f in files if _PACKED_TAR.fullmatch(f.base_name)]
    if parquet:
        return ParquetSource(uri, filesystem, base, chosen(parquet))
    if tars and pictures:
        raise UserError(
            f"{uri}: both tars ({tars[0].base_name}) and pictures ({pictures[0].base_name}) in it; "
            f"name a folder or a pattern (like *.tar) that has only one of them"
        )
    if packed and not pictures:
        raise UserError(f"{packed[0].path}: is compressed; uncompress it to a plain .tar")
    if tars:
        return WebDatasetSource(uri, filesystem, base, chosen(tars))
    if not pictures:
        kinds = ", ".join(sorted({f.extension for f in files if f.extension})[:5]) or "no extension"
        raise UserError(
            f"{uri}: neither Parquet files nor pictures ({', '.join(EXTENSIONS)}) nor tars among "
            f"its {len(files)} files ({kinds})"
        )
    if all(_split_folder(f.path[len(base) :].lstrip("/")) for f in pictures):
        return FolderSource(uri, filesystem, base, _of_split(pictures, base, split), depth=1)
    return FolderSource(uri, filesystem, base, pictures)


def _of_split(files: list[FileInfo], base: str, split: str) -> list[FileInfo]:
    """The files of one split, where names tell splits apart; all files where they do not.

    Told by the first folder (`train/...`, as in ImageNet) or else, for Parquet and tars, by the
    file's own name (`train-00000-of-00004.parquet`); a picture may be called anything.
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
    """The split that a relative path names, by its first folder or else by its file name.

    A name may begin with it (`train-00000-of-00004`) or have it inside (`imagenet-train-000000`).
    """
    if folder := _split_folder(path):
        return folder
    name = path.rsplit("/", 1)[-1]
    words = re.split(r"[-_.]", name)[:-1]  # the last is the extension
    found = [word for word in words if word in ("train", "val", "validation", "test")]
    if not found:
        return None
    return words[0] if words[0] in found else found[-1]
