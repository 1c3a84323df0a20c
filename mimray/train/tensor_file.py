"""Safetensors, written as a stream: no second copy of the tensors in memory, and a checksum on the way.

The format (huggingface/safetensors): 8 bytes with the length of a JSON header, the header, the tensors'
bytes one after another. The library writes whole files on local disks only; it reads what we write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Writable(Protocol):
    """A file or a stream of a filesystem."""

    def write(self, data: Any, /) -> object: ...


def write_tensors(file: Writable, tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Write CPU tensors by name; returns `{"bytes": size, "sha256": hex digest}` of what was written."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    digest = hashlib.sha256()
    parts: list[Any] = [len(text).to_bytes(8, "little"), text, *map(_bytes, tensors.values())]
    for part in parts:
        digest.update(part)  # this and the write let other threads run
        file.write(part)
    return {"bytes": 8 + len(text) + end, "sha256": digest.hexdigest()}


def _bytes(tensor: Tensor) -> np.ndarray:
    """A tensor's memory, without a copy where it is contiguous."""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
