"""Checkpoints: safetensors and JSON, complete when the manifest is there and its checksums hold.

Nothing random needs saving: what is random about a step is a hash of its position.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from pyarrow import fs

from mimray.train.run_folder import RunFolder

if TYPE_CHECKING:  # finding a checkpoint needs no torch, and Ray's controller only finds
    import torch
    from torch import nn

log = logging.getLogger("mimray")
_MOMENTS = ("exp_avg", "exp_avg_sq")


def name_of(step: int) -> str:
    """Folder of a step's checkpoint, relative to the run."""
    return f"checkpoints/step-{step:08d}"


def save(
    run: RunFolder,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loop: dict[str, Any],
    keep: int,
) -> str:
    """Write a checkpoint and forget all but the newest `keep`; returns its name in the run.

    `loop`: what the training loop needs beside weights, as JSON. The manifest comes last, so an
    interrupted write is never taken for a checkpoint.
    """
    folder = name_of(step)
    from safetensors.torch import save as save_tensors

    files = {
        "model.safetensors": save_tensors(_contiguous(model.state_dict())),
        "optimizer.safetensors": save_tensors(_optimizer_tensors(model, optimizer)),
        "loop.json": json.dumps(loop, indent=2).encode(),
    }
    run.filesystem.create_dir(run.file(folder), recursive=True)
    for name, data in files.items():
        run.write(f"{folder}/{name}", data)
    checksums = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    manifest = {"step": step, "files": checksums}
    run.write(f"{folder}/manifest.json", json.dumps(manifest, indent=2).encode())
    steps = _steps(run)
    outdated = [s for s in steps if s > step]  # torn, or about to be trained again
    for old in outdated + [s for s in steps if s < step][keep - 1 :]:
        run.filesystem.delete_dir(run.file(name_of(old)))
    return folder


def newest(run: RunFolder) -> int | None:
    """Step of the newest complete checkpoint; a damaged one is passed over, saying so."""
    for step in _steps(run):
        problem = _problem(run, step)
        if problem is None:
            return step
        log.warning(
            "checkpoint %s is not complete (%s); trying the one before", name_of(step), problem
        )
    return None


def load(
    run: RunFolder, step: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill model and optimiser from a checkpoint; returns what `save` was given as `loop`."""
    import torch
    from safetensors.torch import load as load_tensors

    folder = name_of(step)
    model.load_state_dict(load_tensors(_bytes(run, f"{folder}/model.safetensors")))
    moments = load_tensors(_bytes(run, f"{folder}/optimizer.safetensors"))
    names = {p: n for n, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            state["step"] = torch.tensor(float(step))
            for moment in _MOMENTS:
                state[moment] = moments[f"{moment}/{names[parameter]}"].to(parameter.device)
    return json.loads(_bytes(run, f"{folder}/loop.json"))


def _bytes(run: RunFolder, name: str) -> bytes:
    data = run.read(name)
    assert data is not None, f"{name} was there when the checkpoint was checked"
    return data


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """AdamW's moments by parameter name; its own step count is the run's."""
    return _contiguous(
        {
            f"{moment}/{name}": optimizer.state[parameter][moment]
            for name, parameter in model.named_parameters()
            for moment in _MOMENTS
        }
    )


def _steps(run: RunFolder) -> list[int]:
    """Steps of all checkpoint folders, complete or not, newest first."""
    selector = fs.FileSelector(run.file("checkpoints"), allow_not_found=True)
    names = [info.base_name for info in run.filesystem.get_file_info(selector)]
    return sorted(
        (int(n[5:]) for n in names if n.startswith("step-") and n[5:].isdigit()), reverse=True
    )


def _problem(run: RunFolder, step: int) -> str | None:
    """Why a checkpoint cannot be used, or None."""
    manifest = run.read(f"{name_of(step)}/manifest.json")
    if manifest is None:
        return "no manifest"
    try:
        files = json.loads(manifest)["files"]
        for name, expected in files.items():
            data = run.read(f"{name_of(step)}/{name}")
            if data is None:
                return f"{name} is missing"
            if hashlib.sha256(data).hexdigest() != expected["sha256"]:
                return f"{name} is damaged"
    except (ValueError, KeyError, TypeError):
        return "manifest.json is damaged"
    return None
