"""What says that a checkpoint is complete: its manifest, and the checksums in it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pyarrow import fs

from mimray.train.run_folder import RunFolder


def name_of(step: int) -> str:
    """Folder of a step's checkpoint, relative to the run."""
    return f"checkpoints/step-{step:08d}"


def steps_of(run: RunFolder) -> list[int]:
    """Steps of all checkpoint folders, complete or not, newest first."""
    selector = fs.FileSelector(run.file("checkpoints"), allow_not_found=True)
    found = run.filesystem.get_file_info(selector)
    names = [info.base_name for info in found if info.type == fs.FileType.Directory]
    return sorted(
        (int(n[5:]) for n in names if n.startswith("step-") and n[5:].isdigit()), reverse=True
    )


def read_manifest(run: RunFolder, step: int) -> dict[str, Any] | None:
    """A checkpoint's manifest, or None where it is not there, damaged, or of another step."""
    try:
        manifest = json.loads(run.read(f"{name_of(step)}/manifest.json") or b"null")
    except ValueError:
        return None
    whole = isinstance(manifest, dict) and manifest.pop("digest", None) == digest_of(manifest)
    return manifest if whole and manifest["step"] == step else None


def digest_of(manifest: dict[str, Any]) -> str:
    """Of what a manifest says, so that a flipped bit in it shows too."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def problem_of(run: RunFolder, step: int, contents: bool = False) -> str | None:
    """Why a checkpoint cannot be used, or None; `contents`: read its files too."""
    manifest = read_manifest(run, step)
    if manifest is None:
        return "no manifest of its own, or a damaged one"
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
