"""Reading the file that a target needs, and nothing but tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_tensors(file: str) -> dict[str, Tensor]:
    """The tensors in `target.file`, on the CPU: safetensors, or a pickle that holds tensors alone.

    Raises ValueError where there is no such file, or it is another. Code in a pickle is not run.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"target.file={file}: no such file on this host")
    try:
        return load_file(path)
    except SafetensorError:
        pass
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a file that is no pickle fails in many ways
        found = None
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(
            f"target.file={file}: neither safetensors nor a pickle of a state dict, whose values are "
            "tensors alone"
        )
    return found
