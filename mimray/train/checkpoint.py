"""Checkpoints: safetensors and JSON, complete when the manifest is there and its checksums hold.

Nothing random needs saving: what is random about a step is a hash of its position. A folder without
its manifest is no checkpoint, whatever else is in it, and the manifest is written last. Where several
ranks write, each leaves a note of its files, and the first writes the manifest when all notes are there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import fs

from mimray.data.files import atomic_file, sync_folder
from mimray.train.manifest import digest_of, name_of, problem_of, read_manifest, steps_of
from mimray.train.run_folder import RunFolder

if TYPE_CHECKING:  # finding a checkpoint needs no torch, and Ray's controller only finds
    import torch
    from torch import nn

log = logging.getLogger("mimray")
_PATIENCE_SECONDS = 600.0  # for the other ranks' files, after one's own are written
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Shard:
    """The share of one of `ranks` that write a checkpoint together.

    `start`: the same on all of them and another at each start, so that what an earlier one left in
    the folder of this step is not taken for this one's.
    """

    rank: int = 0
    ranks: int = 1
    start: str = ""

    def file(self, kind: str) -> str:
        """Name of this share's file of `model` or `optimizer`."""
        part = f"-{self.rank:05d}-of-{self.ranks:05d}" if self.ranks > 1 else ""
        return f"{kind}{part}.safetensors"


# ----- writing -------------------------------------------------------------------------------------


def write(
    run: RunFolder,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    loop: dict[str, Any],
    criterion: float | None = None,
    shard: Shard = Shard(),
) -> str:
    """Write this rank's CPU `tensors`, as `tensors_of` names them; the first rank writes `loop`, what
    the loop needs besides, waits for the others' files, and completes the checkpoint.

    `criterion`: what the best is told by, lower is better, measured at this very step, or None. Returns
    the checkpoint's name in the run. Raises OSError where storage fails, here or at another rank.
    """
    from mimray.train.tensor_file import write_tensors

    folder = name_of(step)
    _make_folder(run, folder)
    files: dict[str, Any] = {}
    for name, of_file in tensors.items():
        run.check_token()
        with atomic_file(run.filesystem, run.file(f"{folder}/{name}")) as file:
            files[name] = write_tensors(file, of_file)
            run.check_token()  # gigabytes take a while; what is not another's run any more is dropped
    if shard.rank:
        write_note(run, step, shard, {"files": files})
        return folder
    data = json.dumps(loop, indent=2).encode()
    run.write(f"{folder}/loop.json", data)
    files["loop.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files |= _files_of_others(run, step, shard)
    manifest: dict[str, Any] = {"step": step, "criterion": criterion, "files": files}
    manifest["digest"] = digest_of(manifest)
    run.write(f"{folder}/manifest.json", json.dumps(manifest, indent=2).encode())
    return folder


def _make_folder(run: RunFolder, folder: str) -> None:
    """Create a folder of the run, durably: a checkpoint whose folder a crash takes away is lost."""
    run.check_token()
    run.filesystem.create_dir(run.file(folder), recursive=True)
    if run.local:
        inside = Path(run.file(folder)).relative_to(run.path)
        for parent in inside.parents:
            sync_folder(Path(run.path) / parent)


def write_note(run: RunFolder, step: int, shard: Shard, content: dict[str, Any]) -> None:
    """Tell the first rank what became of this rank's share: its `files`, or its `error`."""
    note = {"start": shard.start, **content}
    run.write(_note(step, shard.rank), json.dumps(note).encode())


def _note(step: int, rank: int) -> str:
    return f"{name_of(step)}/rank-{rank:05d}.json"


def _files_of_others(run: RunFolder, step: int, shard: Shard) -> dict[str, Any]:
    """The other ranks' files and their checksums, when all are written; OSError if one's are not."""
    files: dict[str, Any] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    for rank in range(1, shard.ranks):
        while (note := _read_note(run, step, rank)).get("start") != shard.start:
            if time.monotonic() > until:
                raise OSError(f"trainer {rank} has not written its part in time")
            time.sleep(_LOOK_SECONDS)
        if "error" in note:
            raise OSError(f"trainer {rank}: {note['error']}")
        files |= note["files"]
    return files


def _read_note(run: RunFolder, step: int, rank: int) -> dict[str, Any]:
    data = run.read(_note(step, rank))
    note: dict[str, Any] = json.loads(data) if data else {}
    return note


def prune(run: RunFolder, step: int, keep: int) -> None:
    """Forget all but `step`, the newest `keep` and the best one, by its criterion."""
    steps = steps_of(run)
    outdated = [s for s in steps if s > step]  # torn, or about to be trained again
    before = [s for s in steps if s < step and read_manifest(run, s) is not None]
    best = best_of(run, [step, *before])
    for old in outdated + [s for s in before[keep - 1 :] if s != best]:
        _remove(run, old)
    remove_torn(run, step)


def remove_torn(run: RunFolder, step: int) -> None:
    """Remove what is left, before `step`, of checkpoints that were never completed: the room they take
    may be what the next one lacks."""
    for torn in [s for s in steps_of(run) if s < step and read_manifest(run, s) is None]:
        _remove(run, torn)


def _remove(run: RunFolder, step: int) -> None:
    run.check_token()
    # what is half deleted must not look whole
    manifest = run.file(f"{name_of(step)}/manifest.json")
    if run.filesystem.get_file_info(manifest).type == fs.FileType.File:
        run.filesystem.delete_file(manifest)
    run.filesystem.delete_dir(run.file(name_of(step)))


# ----- finding -------------------------------------------------------------------------------------


def newest(run: RunFolder) -> int | None:
    """Step of the newest checkpoint whose files are all there; their contents are not read."""
    return next((step for step in steps_of(run) if problem_of(run, step) is None), None)


def verified(run: RunFolder) -> int | None:
    """Step of the newest checkpoint whose checksums hold.

    A damaged one is set aside, saying so: it loses its manifest, so that nobody takes it.
    """
    for step in steps_of(run):
        problem = problem_of(run, step, contents=True)
        if problem is None:
            return step
        log.warning(
            "checkpoint %s is not complete (%s); taking the one before", name_of(step), problem
        )
        manifest = run.file(f"{name_of(step)}/manifest.json")
        if run.filesystem.get_file_info(manifest).type == fs.FileType.File:
            run.filesystem.move(manifest, run.file(f"{name_of(step)}/damaged.json"))
    return None


def best_of(run: RunFolder, steps: list[int]) -> int | None:
    """The step with the lowest criterion among those that were validated."""
    losses = {step: (read_manifest(run, step) or {}).get("criterion") for step in steps}
    known = {s: loss for s, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return min(known, key=known.__getitem__, default=None)


def load(
    run: RunFolder, step: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill model and optimiser from a checkpoint of however many shards, on all ranks alike; returns
    what `write` was given as `loop`.

    Raises RunFailed where the model is another.
    """
    from mimray.train.state import Pieces, fill

    folder = name_of(step)
    manifest = read_manifest(run, step)
    assert manifest is not None, "whoever chose the step found one"
    names = sorted(manifest["files"])
    parts = [
        Pieces(run.filesystem, [run.file(f"{folder}/{n}") for n in names if n.startswith(kind)])
        for kind in ("model", "optimizer")
    ]
    try:
        fill(model, optimizer, *parts)
    finally:
        for part in parts:
            part.close()
    data = run.read(f"{folder}/loop.json")
    assert data is not None, "so does its manifest say"
    loop: dict[str, Any] = json.loads(data)
    return loop
