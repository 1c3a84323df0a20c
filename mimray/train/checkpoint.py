"""Checkpoints: safetensors and JSON, complete when the manifest is there and its checksums hold.

Nothing random needs saving: what is random about a step is a hash of its position. A folder without
its manifest is no checkpoint, whatever else is in it, and the manifest is written last.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyarrow import fs

from mimray.data.files import atomic_file
from mimray.train.run_folder import RunFolder

if TYPE_CHECKING:  # finding a checkpoint needs no torch, and Ray's controller only finds
    import torch
    from torch import nn

log = logging.getLogger("mimray")
_MOMENTS = ("exp_avg", "exp_avg_sq")


def name_of(step: int) -> str:
    """Folder of a step's checkpoint, relative to the run."""
    return f"checkpoints/step-{step:08d}"


# ----- writing -------------------------------------------------------------------------------------


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, torch.Tensor]]:
    """What a checkpoint holds, by file: the live tensors. The optimiser's are named by parameter."""
    moments = {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }
    return {"model.safetensors": dict(model.state_dict()), "optimizer.safetensors": moments}


def write(
    run: RunFolder,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    loop: dict[str, Any],
    val_loss: float | None = None,
) -> str:
    """Write CPU `tensors`, as `tensors_of` names them, and `loop`, what the loop needs besides.

    `val_loss`: measured at this very step, or None. Returns the checkpoint's name in the run.
    """
    from mimray.train.tensor_file import write_tensors

    folder = name_of(step)
    run.filesystem.create_dir(run.file(folder), recursive=True)
    checksums: dict[str, Any] = {}
    for name, of_file in tensors.items():
        with atomic_file(run.filesystem, run.file(f"{folder}/{name}")) as file:
            checksums[name] = write_tensors(file, of_file)
    data = json.dumps(loop, indent=2).encode()
    run.write(f"{folder}/loop.json", data)
    checksums["loop.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {"step": step, "val/loss": val_loss, "files": checksums}
    run.write(f"{folder}/manifest.json", json.dumps(manifest, indent=2).encode())
    return folder


def prune(run: RunFolder, step: int, keep: int) -> None:
    """Forget all but `step`, the newest `keep` and the one with the lowest validation loss."""
    steps = _steps(run)
    outdated = [s for s in steps if s > step]  # torn, or about to be trained again
    before = [s for s in steps if s < step and _manifest(run, s) is not None]
    torn = [s for s in steps if s < step and s not in before]
    best = best_of(run, [step, *before])
    for old in outdated + torn + [s for s in before[keep - 1 :] if s != best]:
        # what is half deleted must not look whole
        manifest = run.file(f"{name_of(old)}/manifest.json")
        if run.filesystem.get_file_info(manifest).type == fs.FileType.File:
            run.filesystem.delete_file(manifest)
        run.filesystem.delete_dir(run.file(name_of(old)))


# ----- finding -------------------------------------------------------------------------------------


def newest(run: RunFolder) -> int | None:
    """Step of the newest checkpoint whose files are all there; their contents are not read."""
    return next((step for step in _steps(run) if _problem(run, step) is None), None)


def verified(run: RunFolder) -> int | None:
    """Step of the newest checkpoint whose checksums hold.

    A damaged one is set aside, saying so: it loses its manifest, so that nobody takes it.
    """
    for step in _steps(run):
        problem = _problem(run, step, contents=True)
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
    """The step with the lowest validation loss among those that were validated."""
    losses = {step: (_manifest(run, step) or {}).get("val/loss") for step in steps}
    known = {s: loss for s, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return min(known, key=known.__getitem__, default=None)


def load(
    run: RunFolder, step: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill model and optimiser from a checkpoint; returns what `write` was given as `loop`."""
    import torch
    from safetensors.torch import load as load_tensors

    folder = name_of(step)
    loop: dict[str, Any] = json.loads(_bytes(run, f"{folder}/loop.json"))
    model.load_state_dict(load_tensors(_bytes(run, f"{folder}/model.safetensors")))
    moments = load_tensors(_bytes(run, f"{folder}/optimizer.safetensors"))
    names = {p: n for n, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            state["step"] = torch.tensor(float(step), device=parameter.device)
            for moment in _MOMENTS:
                state[moment] = moments[f"{moment}/{names[parameter]}"].to(parameter.device)
    return loop


def _bytes(run: RunFolder, name: str) -> bytes:
    data = run.read(name)
    assert data is not None, f"{name} was there when the checkpoint was checked"
    return data


def _steps(run: RunFolder) -> list[int]:
    """Steps of all checkpoint folders, complete or not, newest first."""
    selector = fs.FileSelector(run.file("checkpoints"), allow_not_found=True)
    found = run.filesystem.get_file_info(selector)
    names = [info.base_name for info in found if info.type == fs.FileType.Directory]
    return sorted(
        (int(n[5:]) for n in names if n.startswith("step-") and n[5:].isdigit()), reverse=True
    )


def _manifest(run: RunFolder, step: int) -> dict[str, Any] | None:
    """A checkpoint's manifest, or None where it is not there or no manifest."""
    try:
        manifest = json.loads(run.read(f"{name_of(step)}/manifest.json") or b"null")
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) and "files" in manifest else None


def _problem(run: RunFolder, step: int, contents: bool = False) -> str | None:
    """Why a checkpoint cannot be used, or None; `contents`: read its files too."""
    manifest = _manifest(run, step)
    if manifest is None:
        return "no manifest, or a damaged one"
    for name, expected in manifest["files"].items():
        info = run.filesystem.get_file_info(run.file(f"{name_of(step)}/{name}"))
        if info.type != fs.FileType.File:
            return f"{name} is missing"
        if info.size != expected["bytes"]:
            return f"{name} is cut off"
        if contents and _sha256(run, f"{name_of(step)}/{name}") != expected["sha256"]:
            return f"{name} is damaged"
    return None


def _sha256(run: RunFolder, name: str) -> str:
    digest = hashlib.sha256()
    with run.filesystem.open_input_stream(run.file(name)) as file:
        while part := file.read(2**22):
            digest.update(part)
    return digest.hexdigest()
