"""Safetensors as streams, on any filesystem: written with a checksum on the way and no second copy in
memory, read by the row.

The format (huggingface/safetensors): 8 bytes with the length of a JSON header, the header, the tensors'
bytes one after another. The library writes whole files on local disks only; it reads what we write.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from pyarrow import fs
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
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_AHEAD = 2**23  # bytes read at a time, so that small tensors cost a store no request each


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


class TensorFile:
    """A file that `write_tensors` wrote and whose checksum holds; only what is asked for is read.

    `shapes`: of the tensors in it, by name.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        raw: Any = filesystem.open_input_file(path)
        self.file = io.BufferedReader(raw, _AHEAD)
        length = int.from_bytes(self.file.read(8), "little")
        self.header: dict[str, Any] = json.loads(self.file.read(length))
        self.start = 8 + length
        self.shapes = {name: torch.Size(about["shape"]) for name, about in self.header.items()}

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor."""
        return _TYPES[self.header[name]["dtype"]]

    def read(self, name: str, into: Tensor, begin: int = 0) -> None:
        """Fill `into`, a contiguous CPU tensor of this dtype, with rows from `begin` on."""
        shape = self.shapes[name]
        assert into.dtype == self.dtype(name) and into.shape[1:] == shape[1:]
        row = math.prod(shape[1:]) * into.element_size()
        self.file.seek(self.start + self.header[name]["data_offsets"][0] + begin * row)
        room: Any = _bytes(into)
        if self.file.readinto(room) != room.nbytes:
            raise OSError(f"{name}: the file ends too early")

    def close(self) -> None:
        """Close the file."""
        self.file.close()
