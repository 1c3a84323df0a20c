"""Paths and URIs: one way to any pyarrow filesystem (local, s3://, gs://, hdfs://)."""

from __future__ import annotations

import fnmatch
import os
import platform
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote

import pyarrow as pa
from pyarrow import ArrowException, fs

from mimray.data import stores
from mimray.errors import RunFailed, UserError

T = TypeVar("T")
Item = TypeVar("Item")

_AT_ONCE = 16  # requests to a store; its answers take long, not our CPU
_PAUSES = (2.0, 8.0)  # seconds before a store that stumbled is asked again


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of a URI; a plain path is local and made absolute.

    Raises UserError for a scheme that pyarrow does not know or a store it cannot reach.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    openers = {"s3": stores.s3, "gs": stores.google, "gcs": stores.google}
    try:
        filesystem, path = openers.get(uri.partition("://")[0], fs.FileSystem.from_uri)(uri)
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"{uri}: {_first_line(error)}") from None
    return filesystem, path


def is_local(filesystem: fs.FileSystem) -> bool:
    """Whether it is this machine's own: no round trips, and renames are atomic."""
    return isinstance(filesystem, fs.LocalFileSystem)


def absolute(uri: str) -> str:
    """A plain path made absolute, so that it means the same in every process; URIs as they are."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *parts: str) -> str:
    """What lies under a URI or a plain path; the options of a URI (`?region=...`) stay at its end."""
    if "://" not in uri:
        return posixpath.join(uri, *parts)
    head, mark, options = uri.partition("?")
    return posixpath.join(head, *map(quote, parts)) + mark + options


def list_files(uri: str) -> tuple[fs.FileSystem, str, list[fs.FileInfo]]:
    """Every file at or under a URI, in order of path: (filesystem, base folder, files).

    The last part may be a pattern (`photos/train-*.parquet`) where no file has that very name.
    Hidden files and folders are left out.
    Raises UserError when nothing is there or it cannot be read.
    """
    filesystem, path = resolve(uri)
    base, pattern = path, None
    try:
        info = filesystem.get_file_info(base)
        if info.type == fs.FileType.NotFound and any(c in Path(path).name for c in "*?["):
            base, pattern = str(Path(path).parent), Path(path).name
            info = filesystem.get_file_info(base)
        if info.type == fs.FileType.NotFound:
            raise UserError(f"{uri}: no such file or folder")
        if info.type == fs.FileType.File:
            return filesystem, str(Path(base).parent), [info]
        found = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (OSError, ArrowException) as error:
        raise UserError(f"{uri}: cannot be read: {_first_line(error)}") from None
    files = [
        f for f in found if f.type == fs.FileType.File and "/." not in f"/{f.path[len(base) :]}"
    ]
    if pattern:
        files = [f for f in files if fnmatch.fnmatch(f.base_name, pattern)]
    if not files:
        raise UserError(f"{uri}: holds no files")
    return filesystem, base, sorted(files, key=lambda f: f.path)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def each(filesystem: fs.FileSystem, call: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
    """`call` of every item, in order; many at once where each waits for a store."""
    if is_local(filesystem):
        return [call(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(call, items))


class Seen(NamedTuple):
    """When a local file was written, as the host that opened the data saw it."""

    mtime_ns: int
    host: str  # another one may have a copy of its own under the same path


def seen(filesystem: fs.FileSystem, info: fs.FileInfo) -> Seen | None:
    """What `read_unchanged` can compare; None for a store, where it would cost a request."""
    if not is_local(filesystem) or info.mtime_ns is None:
        return None
    return Seen(info.mtime_ns, platform.node())


def read_unchanged(
    filesystem: fs.FileSystem,
    path: str,
    size: int,
    read: Callable[[pa.NativeFile], T],
    then: Seen | None = None,
) -> T:
    """What `read` takes from a file that had `size` bytes, and was as `then`, at the data's opening.

    A store that stumbles is asked again for some seconds. Raises RunFailed, naming the file, when it
    is gone, has another size now or was written to, or cannot be read.
    """
    for pause in (*(() if is_local(filesystem) else _PAUSES), None):
        try:
            with filesystem.open_input_file(path) as file:
                if file.size() != size:
                    _changed(path, f"{file.size()} bytes instead of {size}")
                if (
                    then is not None
                    and then.host == platform.node()
                    and filesystem.get_file_info(path).mtime_ns != then.mtime_ns
                ):
                    _changed(path, "it was written to")
                return read(file)
        except (OSError, ArrowException) as error:
            if pause is None or isinstance(error, FileNotFoundError):
                raise RunFailed(f"{path}: cannot be read any more: {_first_line(error)}") from None
        time.sleep(pause)
    raise AssertionError("unreachable")


def _changed(path: str, how: str) -> NoReturn:
    raise RunFailed(f"{path}: has changed since the data was opened: {how}")


def read_bytes(filesystem: fs.FileSystem, path: str) -> bytes | None:
    """A whole file, or None where there is none."""
    try:
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


@contextmanager
def atomic_file(filesystem: fs.FileSystem, path: str) -> Iterator[Any]:
    """A file to write to that appears as a whole at the end of the block, or not at all.

    Locally by fsync and rename; an object store does it by itself, when its stream is closed.
    """
    if not is_local(filesystem):
        file = filesystem.open_output_stream(path)
        try:
            yield file
        except BaseException:
            with suppress(OSError):  # a stream cannot be called off, only closed and deleted
                file.close()
                filesystem.delete_file(path)
            raise
        file.close()
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{path}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(Path(path).parent)


def write_atomic(filesystem: fs.FileSystem, path: str, data: bytes) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part."""
    with atomic_file(filesystem, path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make the names in a local folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
