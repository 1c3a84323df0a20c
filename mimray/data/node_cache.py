"""Bytes that a host reads once and all its data tasks share: row groups, pieces of tar files.

A shuffle window touches the same row groups again and again, from every process that decodes. So the
first one that needs a piece writes it to a file, and the others map that file. What the window has
left behind is removed, oldest first; the kernel's page cache makes it memory in all but name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

_PREFIX = "mimray-cache-"
_STRIPES = 64
_TRIES = 20  # to make the folder while others remove it
# Where all may write, a link or a pipe of somebody else's may lie under our name.
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_held: dict[str, int] = {}  # folder -> handle whose shared lock says that this process uses it
_entering = threading.Lock()


@dataclass(frozen=True)
class NodeCache:
    """At most about `limit` bytes in a folder of this host; small enough to travel with a source.

    The folder lies under MIMRAY_CACHE, or else where temporary files do, and goes with the run; that
    of a run which was killed is removed by the next one on this host.
    """

    limit: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def folder(self) -> Path:
        """Where this host keeps it."""
        parent = os.environ.get("MIMRAY_CACHE") or tempfile.gettempdir()
        return Path(parent) / f"{_PREFIX}{os.getuid()}-{self.token}"

    def fetch(self, key: str, make: Callable[[], pa.Buffer]) -> pa.Buffer:
        """The bytes that `make` gives, made once a host while they are in use. `key`: a file name.

        Where they do not fit the disk, or there is no place for a folder, they are made and not kept.
        """
        folder = self.folder
        try:
            _enter(folder)
            path = folder / key
            if (found := _mapped(path)) is not None:
                return found
            with _locked(folder / f".{zlib.crc32(key.encode()) % _STRIPES}"):
                if (found := _mapped(path)) is not None:
                    return found
                data = make()
                self._keep(path, data)
            return _mapped(path) or data
        except _Unusable:
            return make()

    def _keep(self, path: Path, data: pa.Buffer) -> None:
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            part.write_bytes(memoryview(data))
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            return
        entries = []
        for file in path.parent.glob("[!.]*"):
            with suppress(OSError):
                state = file.stat()
                entries.append((state.st_mtime_ns, state.st_size, file))
        over = sum(size for _, size, _ in entries) - self.limit
        for _, size, file in sorted(entries):
            if over <= 0 or file == path:
                break
            file.unlink(missing_ok=True)  # who has mapped it keeps it
            over -= size

    def clear(self) -> None:
        """Remove it from this host."""
        handle = _held.pop(str(self.folder), None)
        if handle is not None:
            os.close(handle)
        shutil.rmtree(self.folder, ignore_errors=True)


def cache_key(uri: str, base: str, digest: str) -> str:
    """What the keys of a source's pieces begin with; sources of other places have others."""
    return hashlib.sha256(f"{uri}\0{base}\0{digest}".encode()).hexdigest()[:16]


class _Unusable(Exception):
    """There is no place for a cache."""


def _enter(folder: Path) -> None:
    """Make the folder and say that this process uses it; nothing to do where it has and still does.

    Whoever finds the folder gone (a cleaner of temporary files) makes it anew.
    """
    if _is_held(folder):
        return
    with _entering:
        if _is_held(folder):
            return
        if (gone := _held.pop(str(folder), None)) is not None:
            os.close(gone)
        try:
            _sweep(folder.parent)
            _held[str(folder)] = _use(folder)
        except OSError:
            raise _Unusable from None


def _is_held(folder: Path) -> bool:
    handle = _held.get(str(folder))
    return handle is not None and _is_file(handle, folder / ".used")


def _use(folder: Path) -> int:
    """A handle whose shared lock says that this process uses the folder."""
    for _ in range(_TRIES):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(folder.lstat(), stat.S_ISDIR):
            break
        try:
            handle = os.open(folder / ".used", os.O_CREAT | _OPEN, 0o600)
        except FileNotFoundError:
            continue  # another process took the folder for one that nobody uses
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_file(handle, folder / ".used"):
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)  # it did so before we had the lock
    raise _Unusable


def _sweep(parent: Path) -> None:
    """Remove our user's folders that no process uses any more; others may write here as well."""
    for folder in parent.glob(f"{_PREFIX}{os.getuid()}-*"):
        with suppress(OSError):
            if _ours(folder.lstat(), stat.S_ISDIR):
                _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    handle = os.open(folder / ".used", _OPEN)
    try:
        if not _ours(os.fstat(handle), stat.S_ISREG):
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_file(handle, folder / ".used"):  # and not of a folder that was removed and made anew
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _ours(state: os.stat_result, of_type: Callable[[int], bool]) -> bool:
    return of_type(state.st_mode) and state.st_uid == os.getuid()


def _is_file(handle: int, path: Path) -> bool:
    """Whether an open file is what lies at a path now."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_CREAT | _OPEN, 0o600)
    except OSError:
        raise _Unusable from None
    try:
        _wait_for(handle)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        raise _Unusable from None


def _mapped(path: Path) -> pa.Buffer | None:
    try:
        with pa.memory_map(str(path)) as file:
            buffer = file.read_buffer()
    except (OSError, pa.ArrowInvalid):
        return None
    with suppress(OSError):  # it was removed just now; who has mapped it keeps it
        os.utime(path)
    return buffer
