"""Where the pictures of a WebDataset tar lie in it, and their labels.

A tar has no table of contents: finding its members means going through all of it. So what was found
is kept under `~/.cache/mimray` (or `$XDG_CACHE_HOME/mimray`) for the next run.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyarrow import ArrowException, fs

from mimray.data.files import is_local, write_atomic
from mimray.data.sources.folder import EXTENSIONS
from mimray.errors import UserError

_FORMAT = 1  # of a kept index
_WORTH_KEEPING = 2**20  # bytes of a tar; a smaller one is gone through in no time
_BLOCK = 512
_AHEAD = 16 * 2**10  # bytes read at once of a local file, in which seeking costs nothing
_AHEAD_STORE = 4 * 2**20  # and of one in a store, where it costs a request
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_UNREADABLE = (  # the last two: sizes that no file has
    tarfile.TarError,
    OSError,
    ArrowException,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
)
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class TarIndex(NamedTuple):
    """The pictures of one tar, in its order. `labels` are -1 where a picture has no `.cls`."""

    offsets: np.ndarray  # int64 (n,), of the first byte
    sizes: np.ndarray  # int64 (n,), bytes
    labels: np.ndarray  # int32 (n,)
    names: np.ndarray  # uint8, the members' names, compressed: see `unpack_names`


def unpack_names(packed: np.ndarray) -> list[str]:
    """The names in `TarIndex.names`."""
    return zlib.decompress(packed.tobytes()).decode("utf-8", "replace").split("\0")


def fingerprint(index: TarIndex) -> bytes:
    """Its SHA-256; names count as they are, for compressed they differ from one zlib to the next."""
    digest = hashlib.sha256(zlib.decompress(index.names.tobytes()))
    for column, kind in ((index.offsets, "<i8"), (index.sizes, "<i8"), (index.labels, "<i4")):
        digest.update(column.astype(kind, copy=False).tobytes())
    return digest.digest()


def open_index(filesystem: fs.FileSystem, info: fs.FileInfo, store: str) -> TarIndex:
    """The index of a tar, from the last time if it has not changed.

    `store` tells filesystems with equal paths apart. Raises UserError, naming the tar and the member,
    for a tar that is damaged, compressed, or holds what no WebDataset holds.
    """
    kept = _place(info, store) if info.size >= _WORTH_KEEPING else None
    index = _load(kept) if kept else None
    if index is None:
        index = make_index(filesystem, info)
        if kept:
            _keep(kept, index)
    return index


def make_index(filesystem: fs.FileSystem, info: fs.FileInfo) -> TarIndex:
    """Go through a tar. Raises UserError as `open_index` does."""
    ahead = _AHEAD if is_local(filesystem) else _AHEAD_STORE
    try:
        with (
            filesystem.open_input_file(info.path) as raw,
            io.BufferedReader(raw, ahead) as file,
        ):
            start = file.peek(8)[:8]
            for magic, packing in _PACKED.items():
                if start.startswith(magic):
                    raise UserError(
                        f"{info.path}: is compressed ({packing}), and pictures in it have no place "
                        f"of their own; uncompress it"
                    )
            return _index(file, info.path)
    except _UNREADABLE as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{info.path}: not a readable tar: {line}") from None


def _index(file: io.BufferedReader, path: str) -> TarIndex:
    pictures: list[tuple[int, int, str, str]] = []  # offset, size, key, name
    label_of: dict[str, int] = {}
    end = 0
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # or it would hold on to every one
            if member.size < 0 or member.offset < end:  # tarfile would go round in circles
                raise tarfile.ReadError(f"a member of {member.size} bytes at byte {member.offset}")
            _check(member, path)
            end = -(-(member.offset_data + member.size) // _BLOCK) * _BLOCK
            folder, _, base = member.name.rpartition("/")
            key, _, extension = base.partition(".")  # so WebDataset has it
            hidden = any(p.startswith(".") and p != "." for p in member.name.split("/"))
            if hidden or not member.isreg():
                continue
            if extension.lower() in EXTENSIONS:
                name = member.name.removeprefix("./")
                pictures.append((member.offset_data, member.size, f"{folder}/{key}", name))
            elif extension == "cls":
                file.seek(member.offset_data)
                text = re.fullmatch(rb"\s*(\d{1,9})\s*", file.read(min(member.size, 64)))
                label_of[f"{folder}/{key}"] = int(text[1]) if text else -1
        _check_end(file, end)
    names = "\0".join(name for *_, name in pictures).encode("utf-8", "surrogateescape")
    return TarIndex(
        np.array([offset for offset, *_ in pictures], np.int64),
        np.array([size for _, size, *_ in pictures], np.int64),
        np.array([label_of.get(key, -1) for _, _, key, _ in pictures], np.int32),
        np.frombuffer(zlib.compress(names), np.uint8),
    )


def _check(member: tarfile.TarInfo, path: str) -> None:
    """Refuse what has no business in a WebDataset; it is never unpacked, but somebody may."""
    problem = None
    if member.name.startswith("/"):
        problem = "has an absolute name"
    elif ".." in member.name.split("/"):
        problem = "has '..' in its name"
    elif member.issym() or member.islnk():
        problem = f"is a link (to {member.linkname!r})"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        problem = "is neither a plain file nor a folder"
    if problem:
        raise UserError(f"{path}: its member {member.name!r} {problem}; write the tar without it")


def _check_end(file: io.BufferedReader, end: int) -> None:
    """tarfile takes whatever is no header for the end; it is one only where zeros follow.

    Raises tarfile.ReadError.
    """
    file.seek(end)
    mark = file.read(_BLOCK)
    if len(mark) < _BLOCK:
        raise tarfile.ReadError(f"it is cut off at byte {end + len(mark)}: it has no end mark")
    if any(mark):
        raise tarfile.ReadError(f"what follows at byte {end} is no member of a tar")
    while data := file.read(2**20):
        if data.strip(b"\0"):
            raise tarfile.ReadError("data follows its end mark (were several tars joined?)")


def _place(info: fs.FileInfo, store: str) -> Path | None:
    """Where the index of a tar is kept; None where nothing would tell that the tar has changed."""
    if info.mtime_ns is None:
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    key = f"{_FORMAT} {store} {info.path} {info.size} {info.mtime_ns}"
    return folder / "mimray" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _load(path: Path) -> TarIndex | None:
    with suppress(*_DAMAGED), np.load(path, allow_pickle=False) as kept:
        index = TarIndex(**{name: kept[name] for name in TarIndex._fields})
        if len(index.offsets) == len(index.sizes) == len(index.labels):
            return index
    return None


def _keep(path: Path, index: TarIndex) -> None:
    data = io.BytesIO()
    np.savez(data, **index._asdict())
    with suppress(OSError):  # it is a help, not a need
        write_atomic(fs.LocalFileSystem(), str(path), data.getvalue())
