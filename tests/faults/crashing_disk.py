"""A disk on which a save is watched call by call, and that can be asked what a crash would leave.

The model is POSIX's and nothing kinder: `fsync` of a file keeps its bytes and not its name, `fsync` of a
folder keeps the names in it; what was not synced may be there, or not, or in part, each for itself.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from mimray.data import files
from mimray.train.run_folder import RunFolder

Call = tuple[Any, ...]
"""("create" | "write" | "fsync" | "mkdir" | "rename" | "unlink" | "rmdir" | "done", path, ...)"""


@dataclass
class File:
    """Bytes as a process sees them, and as they are safe."""

    data: bytes = b""
    safe: bytes = b""


@dataclass
class Folder:
    """Names as a process sees them, the safe ones, and the changes in between, each whole or not."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, **entries: File | Folder | None) -> None:
        apply(self.names, entries)
        self.pending.append(entries)


def apply(names: dict[str, File | Folder], entries: dict[str, File | Folder | None]) -> None:
    for name, node in entries.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """What calls make of an empty folder."""

    def __init__(self) -> None:
        self.root = Folder()

    def node(self, path: str) -> Any:
        found: Any = self.root
        for name in Path(path).parts:
            found = found.names[name]
        return found

    def apply(self, call: Call) -> None:
        """Go on by one call."""
        kind, path = call[:2]
        name = Path(path).name
        parent = (
            self.node(str(Path(path).parent)) if kind not in ("fsync", "write", "done") else None
        )
        if kind == "create":
            parent.change(**{name: File()})
        elif kind == "mkdir":
            parent.change(**{name: Folder()})
        elif kind == "write":
            self.node(path).data += call[2]
        elif kind == "rename":
            parent.change(**{name: None, Path(call[2]).name: self.node(path)})
        elif kind in ("unlink", "rmdir"):
            parent.change(**{name: None})
        elif kind == "fsync":
            self.sync(self.node(path))

    @staticmethod
    def sync(node: File | Folder) -> None:
        if isinstance(node, File):
            node.safe = node.data
        else:
            node.safe, node.pending = dict(node.names), []

    def after_crash(self, survives: Callable[[], float]) -> dict[str, bytes | None]:
        """Contents by path, None for a folder; `survives`: 1 for whole, 0 for not, between for in part."""
        found: dict[str, bytes | None] = {}

        def visit(folder: Folder, path: Path) -> None:
            names = dict(folder.safe)
            for change in folder.pending:
                if survives() > 0.5:
                    apply(names, change)
            for name, node in names.items():
                if isinstance(node, Folder):
                    found[str(path / name)] = None
                    visit(node, path / name)
                else:
                    found[str(path / name)] = torn(node, survives())

        visit(self.root, Path())
        return found


def torn(file: File, share: float) -> bytes:
    """A file of whose unsynced bytes a share has arrived: cut off there, or zeros from there on."""
    new = file.data[len(file.safe) :]
    arrived = new[: round(share * len(new))]
    zeros = b"\0" * (len(new) - len(arrived)) if 0.0 < share < 0.5 else b""
    return file.safe + arrived + zeros


def crashes(disk: Disk, seed: int, variants: int) -> Iterator[dict[str, bytes | None]]:
    """What a killed process, a power cut with nothing written back, and some in between leave."""
    yield disk.after_crash(lambda: 1.0)
    yield disk.after_crash(lambda: 0.0)
    for variant in range(variants):
        chance = random.Random(seed * variants + variant)
        yield disk.after_crash(lambda chance=chance: chance.choice([0.0, 1.0, chance.random()]))


# ----- watching -------------------------------------------------------------------------------------


class Watch:
    """Calls under a folder, in order, of all threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[Call] = []
        self.lock = threading.Lock()

    def note(self, kind: str, path: object, *more: object) -> None:
        place = Path(os.path.abspath(str(path)))
        if place == self.root or self.root in place.parents:
            with self.lock:
                self.calls.append((kind, str(place.relative_to(self.root)), *more))


class WatchedFile:
    """A file whose writes are noted, each at once on the disk."""

    def __init__(self, file: Any, watch: Watch) -> None:
        self.file, self.watch = file, watch

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.file.flush()
        self.watch.note("write", self.file.name, bytes(data))

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


class WatchedFilesystem(fs.LocalFileSystem):
    """pyarrow's local filesystem, as far as a run changes anything through it."""

    watch: Watch

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        missing = [p for p in (Path(path), *Path(path).parents) if not p.exists()]
        super().create_dir(path, recursive=recursive)
        for folder in reversed(missing):
            self.watch.note("mkdir", folder)

    def delete_file(self, path: str) -> None:
        super().delete_file(path)
        self.watch.note("unlink", path)

    def delete_dir(self, path: str) -> None:
        for file in sorted(Path(path).iterdir()):  # in this order or another: none is synced
            self.watch.note("unlink", file)
        super().delete_dir(path)
        self.watch.note("rmdir", path)

    def move(self, src: str, dest: str) -> None:
        super().move(src, dest)
        self.watch.note("rename", src, Path(dest).name)


@contextmanager
def watched(run: RunFolder) -> Iterator[Watch]:
    """Note what happens under a run's folder, which is there and empty."""
    watch = Watch(Path(run.path))
    run.filesystem = WatchedFilesystem()
    run.filesystem.watch = watch
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def watched_open(path: Any, mode: str = "r") -> Any:
        if "w" not in mode:
            return open(path, mode)
        opened = open(path, mode)  # noqa: SIM115
        watch.note("create", path)
        return WatchedFile(opened, watch)

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        watch.note("fsync", Path(f"/proc/self/fd/{handle}").readlink())

    def watched_replace(self: Path, target: Any) -> Path:
        watch.note("rename", self, target)
        return replace(self, target)

    def watched_unlink(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            watch.note("unlink", self)
        unlink(self, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open", watched_open, raising=False)
        patch.setattr(os, "fsync", watched_fsync)
        patch.setattr(Path, "replace", watched_replace)
        patch.setattr(Path, "unlink", watched_unlink)
        yield watch
