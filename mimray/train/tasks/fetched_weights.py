"""Weights in an object store, copied to this host once: those who read weights map files.

The copies lie under `~/.cache/mimray/weights` and may be removed while nothing runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from pyarrow import ArrowException, fs

from mimray.data.files import join, resolve
from mimray.errors import UserError
from mimray.train import checkpoint
from mimray.train.manifest import name_of
from mimray.train.run_folder import RunFolder

_WEIGHTS = ("model", "pytorch_model")
_MANIFEST = "manifest.json"


class NoWeights(UserError, ValueError):
    """Begins with what was named, so that whoever knows under which name the user gave it can say so."""


def is_remote(weights: str) -> bool:
    """Whether they lie in a store."""
    return "://" in weights


def address(weights: str) -> str:
    """Of a run in a store, its newest complete checkpoint; any other URI as it is.

    Raises NoWeights for a run that has none, and a store that cannot be read.
    """
    try:
        run = RunFolder(weights)
        if run.record() is None:
            return run.uri
        step = checkpoint.newest(run)
    except (OSError, ArrowException) as error:
        raise NoWeights(f"{weights}: cannot be read: {_first_line(error)}") from None
    if step is None:
        raise NoWeights(f"{weights}: no complete checkpoint; go on with the run")
    return join(run.uri, *name_of(step).split("/"))


def fetch(weights: str) -> Path:
    """A copy on this host of a file of weights, or of a checkpoint's folder without what else it holds.

    Raises NoWeights where nothing is there, or it cannot be copied.
    """
    place = address(weights)
    filesystem, path = resolve(place)
    try:
        found = _files(filesystem, path)
        if not found:
            raise NoWeights(f"{weights}: no such file, or no weights in that folder")
        told = json.dumps([place, [(f.base_name, f.size, f.mtime_ns) for f in found]])
        folder = _folder() / hashlib.sha256(told.encode()).hexdigest()[:16]
        is_file = found[0].path == path
        if not folder.is_dir():
            _copy(filesystem, found, folder, "" if is_file else Path(path).name)
    except NoWeights:
        raise
    except (OSError, ArrowException, ValueError) as error:
        raise NoWeights(f"{weights}: cannot be read: {_first_line(error)}") from None
    return folder / Path(path).name


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimray" / "weights"


def _files(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """A file, or those of a folder that hold weights, or tell of them."""
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return [info]
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    wanted = [f for f in found if f.base_name.startswith(_WEIGHTS) or f.base_name == _MANIFEST]
    return sorted((f for f in wanted if f.type == fs.FileType.File), key=lambda f: f.path)


def _copy(filesystem: fs.FileSystem, found: list[fs.FileInfo], folder: Path, inside: str) -> None:
    """Make a folder with copies of files in its folder `inside`, as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary) / "whole"
        (whole / inside).mkdir(parents=True)
        for file in found:
            target = whole / inside / file.base_name
            fs.copy_files(file.path, str(target), source_filesystem=filesystem,
                          destination_filesystem=fs.LocalFileSystem())  # fmt: skip
            if file.base_name == _MANIFEST:
                _leave_weights(target)
        with suppress(OSError):  # another process was faster
            whole.rename(folder)


def _leave_weights(manifest: Path) -> None:
    """Let a checkpoint's manifest speak of what is copied."""
    told = json.loads(manifest.read_bytes())
    told["files"] = {n: file for n, file in told["files"].items() if n.startswith(_WEIGHTS)}
    manifest.write_text(json.dumps(told))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
