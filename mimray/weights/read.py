"""From a file or folder to names and tensors, without running anything that the file holds."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

log = logging.getLogger("mimray")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# The first of mimray's shards, each with some rows of every tensor. Hugging Face's hold whole tensors,
# and are counted from 1.
_FIRST_SHARD = re.compile(r"model-00000-of-\d{5}\.safetensors")
# Where projects put the weights among what else a checkpoint holds; DINO keeps student and teacher.
_INSIDE = ("model", "state_dict", "module", "model_state", "model_state_dict", "teacher")
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's


class _Unused:
    """Stands for an object that lies beside the weights: takes its parts and forgets them."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# Settings and numbers that official checkpoints hold beside the weights (DeiT, BEiT, MAE, DINO: args;
# SimMIM, Swin: config). Nothing under these names is imported or called: dictionaries and `_Unused`
# are filled instead. All other names are refused.
_STAND_INS: list[Any] = [
    (OrderedDict, "argparse.Namespace"),
    (OrderedDict, "yacs.config.CfgNode"),
    (_Unused, "numpy.dtype"),
    (_Unused, "numpy.core.multiarray.scalar"),
    (_Unused, "numpy._core.multiarray.scalar"),
]


def read(source: str | Path) -> dict[str, Tensor]:
    """Names and tensors of `source`, under the file's own names, on the CPU.

    `source`: a safetensors or torch file, a checkpoint of mimray (or its first shard) or a run (its
    newest complete checkpoint), or a Hugging Face folder, whole or in shards. Local paths only.

    Raises ValueError for what is not there, cut off, no checkpoint, or a pickle that asks for more
    than weights, which is never run.
    """
    if "://" in str(source):
        raise ValueError(f"{source}: weights are read from local files; copy it here first")
    path = Path(source).expanduser()
    files = files_of(path)
    found: dict[str, Any] = {}
    for file in files:
        held = _read_file(file)
        if _FIRST_SHARD.fullmatch(files[0].name):
            held = {n: torch.cat([found[n], t]) if n in found else t for n, t in held.items()}
        found |= held
    return unwrap(found, str(path))


def files_of(path: Path) -> list[Path]:
    """The files that hold the weights of `path`, as `read` takes them. Raises ValueError for none."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    return _files(path)


def unwrap(found: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without what lies around them and the prefixes of wrappers.

    Raises ValueError where there are none.
    """
    while not any(isinstance(value, Tensor) for value in found.values()):
        inside = [found[name] for name in _INSIDE if isinstance(found.get(name), Mapping)]
        if not inside:
            if "student" in found:
                raise ValueError(
                    f"{source}: holds DINO's student and no teacher; take the whole checkpoint or the "
                    "released backbone"
                )
            held = ", ".join(map(str, list(found)[:4])) or "nothing"
            raise ValueError(f"{source}: holds no weights (it holds {held})")
        found = inside[0]
    weights = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    while prefix := next((w for w in _WRAPPERS if all(n.startswith(w) for n in weights)), None):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


# ----- folders ------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    """The files that hold the weights of `path`."""
    if path.is_file():
        return _files(path.parent) if _FIRST_SHARD.fullmatch(path.name) else [path]
    if (path / "checkpoints").is_dir():
        return _weight_files(_newest_checkpoint(path))
    if problem := _damage(path):
        raise ValueError(f"{path}: {problem}; take another checkpoint")
    if (path / "manifest.json").is_file():
        return _weight_files(path)
    for name in _WEIGHTS:
        if (path / name).is_file():
            return [path / name]
        if (path / f"{name}.index.json").is_file():
            return _shards(path / f"{name}.index.json")
    raise ValueError(f"{path}: holds neither checkpoints nor {' nor '.join(_WEIGHTS)}")


def _newest_checkpoint(run: Path) -> Path:
    steps = sorted((run / "checkpoints").glob("step-*"), reverse=True)
    for step in steps:
        problem = _damage(step)
        if problem is None:
            return step
        log.warning("%s is not complete (%s); taking the one before", step, problem)
    raise ValueError(f"{run}: no complete checkpoint among {len(steps)}; go on with the run")


def _damage(checkpoint: Path) -> str | None:
    """Why a folder is no complete checkpoint of mimray, by its manifest, which is written last.

    None where it is one, and for a folder of somebody else.
    """
    if not (checkpoint / "manifest.json").is_file():
        return "no manifest" if checkpoint.name.startswith("step-") else None
    try:
        files = json.loads((checkpoint / "manifest.json").read_bytes())["files"]
        sizes = {checkpoint / name: expected["bytes"] for name, expected in files.items()}
        digests = {file: files[file.name]["sha256"] for file in _weight_files(checkpoint)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json is damaged"
    for file, size in sizes.items():
        if not file.is_file() or file.stat().st_size != size:
            return f"{file.name} is missing or cut off"
    for file, digest in digests.items():
        with file.open("rb") as weights:
            if hashlib.file_digest(weights, "sha256").hexdigest() != digest:
                return f"{file.name} is damaged"
    return None


def _weight_files(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint of mimray that hold weights, by its manifest.

    Raises ValueError, TypeError or AttributeError where the manifest is damaged.
    """
    files = json.loads((checkpoint / "manifest.json").read_bytes())["files"]
    names = sorted(name for name in files if name.startswith("model"))
    if not names:
        raise ValueError("no weights")
    return [checkpoint / name for name in names]


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index}: not an index of shards; fetch it again") from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ValueError(f"{index}: shard {name} is not beside it; fetch it")
    return [index.parent / name for name in names]


# ----- files --------------------------------------------------------------------------------------


def _read_file(path: Path) -> dict[str, Any]:
    """What one file holds. Which kind it is stands in its first bytes, not in its name."""
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError(f"{path}: empty; fetch it again")
    if start[8:] == b"{":
        return _read_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path)
    raise ValueError(f"{path}: not a checkpoint; safetensors files and torch's are read")


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: cut off or damaged ({error}); fetch it again") from None


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise anything
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path}: refused and not run, for it asks for {wanted[1]} besides weights; ask its "
                "author for safetensors"
            ) from None
        raise ValueError(
            f"{path}: cut off, damaged, or not weights alone; fetch it again, or ask its author for "
            "safetensors"
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: holds a {type(found).__name__}, not names with tensors")
    return dict(found)
