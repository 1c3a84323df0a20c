"""Bytes that a host reads once and all its data tasks share: row groups, pieces of tar files.

A shuffle window touches the same row groups again and again, from every process that decodes. So the
first one that needs a piece writes it to a file, and the others map that file. What the window has
left behind is removed, oldest first; the kernel's page cache makes it memory in all but name.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

_PREFIX = "mimray-cache-"
_STRIPES = 64
_held: dict[str, int] = {}  # folder -> handle whose shared lock says that this process uses it


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

        Where they do not fit the disk they are made, and not kept.
        """
        folder = self.folder
        try:
            if str(folder) not in _held:
                _enter(folder)
            path = folder / key
            if (found := _mapped(path)) is not None:
                return found
            with _locked(folder / f".{sum(key.encode()) % _STRIPES}"):
                if (found := _mapped(path)) is not None:
                    return found
                data = make()
                self._keep(path, data)
            return _mapped(path) or data
        except _Unusable:
            return make()

    def _keep(self, path: Path, data: pa.Buffer) -> None:
        part = path.with_suffix(".part")
        try:
            part.write_bytes(memoryview(data))
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            return
        entries = []
        for file in path.parent.glob("[!.]*"):
            with suppress(FileNotFoundError):
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


class _Unusable(Exception):
    """There is no place for a cache."""


def _enter(folder: Path) -> None:
    """Make the folder and say that this process uses it; remove those that nobody uses any more."""
    try:
        for lock in folder.parent.glob(f"{_PREFIX}{os.getuid()}-*/.used"):
            with suppress(OSError), open(lock, "a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle_of_ours = os.open(folder / ".used", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(handle_of_ours, fcntl.LOCK_SH)
    except OSError:
        raise _Unusable from None
    _held[str(folder)] = handle_of_ours


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        raise _Unusable from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _mapped(path: Path) -> pa.Buffer | None:
    try:
        with pa.memory_map(str(path)) as file:
            buffer = file.read_buffer()
        os.utime(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return buffer
