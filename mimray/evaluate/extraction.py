"""Frozen features of a set of pictures: computed once, shard by shard, and mapped from files.

A shard is whole or not there, so an extraction that was killed goes on. When all shards are there they
become one file a layer, which any number of probes read without loading it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyarrow import fs

from mimray.data.files import atomic_file, write_atomic
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.checkpoint import Checkpoint

MARGIN = 256 / 224  # as classification is validated: SimMIM `data/data_finetune.py`
SHARD_ROWS = 1024
_BATCH = 64  # pictures of a forward pass
_LARGEST = 65504.0  # of float16
_ABOUT = "features.json"


class Features(NamedTuple):
    """`rows`: int64 (n,), ascending, of the pictures that can be read; `layers`: of each, float16
    (n, channels), mapped from a file."""

    rows: np.ndarray
    layers: dict[str, np.ndarray]


@dataclass
class Extraction:
    """What is to be computed: `layers` of a checkpoint, pooled, for `rows` of a source.

    `folder`: of all features; those of this extraction lie below it under its digest. Travels to Ray's
    tasks, so it imports no torch.
    """

    checkpoint: Checkpoint
    source: Source
    rows: np.ndarray
    layers: tuple[str, ...]
    pooling: str
    folder: Path

    @cached_property
    def framing(self) -> Framing:
        """As classification is validated."""
        size = self.checkpoint.image_size
        return Framing(size, False, interpolation="bicubic", margin=MARGIN)

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that the features depend on."""
        one = self.checkpoint
        rows = hashlib.sha256(np.asarray(self.rows, dtype=np.int64).tobytes()).hexdigest()[:16]
        return {
            "checkpoint": one.digest,
            "encoder": one.encoder,
            "window": one.window,
            "pretrained_windows": one.pretrained_windows,
            "finetuned": one.finetuned,
            "source": self.source.digest,
            "rows": rows,
            "framing": repr(self.framing),
            "layers": self.layers,
            "pooling": self.pooling,
        }

    @cached_property
    def place(self) -> Path:
        """Where these features lie."""
        told = json.dumps(self.about, sort_keys=True).encode()
        return self.folder / hashlib.sha256(told).hexdigest()[:16]

    # ----- shards -------------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        """How many there are."""
        return math.ceil(len(self.rows) / SHARD_ROWS)

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be computed; none once the features are whole."""
        if self.read() is not None:
            return []
        return [number for number in range(self.shards) if self._rows(number) is None]

    def compute(self, number: int, device: str = "cpu", threads: int = 1) -> None:
        """Compute one shard and write it; `threads` decode ahead of the encoder.

        Raises UserError where features are not finite.
        """
        import torch
        from safetensors.torch import save

        from mimray.downstream.features import pooled_features
        from mimray.mim.normalisation import normalise

        encoder = _encoder(self.checkpoint, device)
        rows = self.rows[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]
        seen, parts = [], []
        for block in self._decoded(rows, threads):
            readable = block["reason"] == 0
            if not readable.any():
                continue
            seen.append(torch.from_numpy(block["row"][readable]))
            images = torch.from_numpy(block["image"][readable]).to(device).permute(0, 3, 1, 2)
            found = pooled_features(encoder, normalise(images), self.layers, self.pooling)  # type: ignore[arg-type]
            parts.append({name: self._half(name, values).cpu() for name, values in found.items()})
        together = {name: torch.cat([p[name] for p in parts]) for name in self.layers if parts}
        none = torch.zeros(0, dtype=torch.int64)
        data = save({"rows": torch.cat(seen) if seen else none, **together})
        write_atomic(fs.LocalFileSystem(), str(self._file(number)), data)

    def _decoded(self, rows: np.ndarray, threads: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches of pictures, in order, decoded a few ahead."""
        waiting: deque[Future[dict[str, np.ndarray]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(rows), _BATCH):
                piece = np.asarray(rows[start : start + _BATCH], dtype=np.int64)
                block = Block(piece, np.zeros_like(piece), np.zeros((len(piece), 0), np.int64))
                waiting.append(pool.submit(load_block, self.source, block, self.framing))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _half(self, name: str, values: Any) -> Any:
        """As float16. What is larger than it can say is held at its largest: probes standardise, and
        neighbours compare directions, so a few such channels do little."""
        if not values.isfinite().all():
            raise UserError(
                f"--from {self.checkpoint.weights}: layer {name!r} gives features that are not finite; "
                f"has its run diverged? Take an earlier checkpoint"
            )
        return values.clamp(-_LARGEST, _LARGEST).half()

    def _file(self, number: int) -> Path:
        return self.place / f"shard-{number:05d}.safetensors"

    def _rows(self, number: int) -> np.ndarray | None:
        """The rows of a shard; None where its file is not there, or not as long as its header says."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(number), "np") as shard:
                rows: np.ndarray = shard.get_tensor("rows")
                return rows
        except (OSError, SafetensorError):
            return None

    # ----- all shards as one file a layer ---------------------------------------------------------------

    def read(self) -> Features | None:
        """The features, where they are whole."""
        try:
            about = json.loads((self.place / _ABOUT).read_bytes())
            rows = np.load(self.place / "rows.npy")
            found = {name: np.load(self.place / _npy(name), mmap_mode="r") for name in self.layers}
        except (OSError, ValueError):
            return None
        whole = all(array.shape == (len(rows), about[name]) for name, array in found.items())
        return Features(rows, found) if whole and len(rows) else None

    def join(self) -> Features:
        """Make one file of every layer and remove the shards, once all of them are there.

        Raises UserError where none of the pictures can be read, or this host does not see the shards.
        """
        if (found := self.read()) is not None:
            return found
        parts = [part for number in range(self.shards) if (part := self._rows(number)) is not None]
        if len(parts) < self.shards:
            raise UserError(
                f"{self.place}: what other hosts wrote there is not seen here; name a --storage that "
                f"all hosts share"
            )
        rows = np.concatenate(parts)
        if not len(rows):
            raise UserError(f"{self.source.uri}: none of its pictures can be read")
        self._save("rows.npy", [rows], rows.shape, rows.dtype)
        channels = {name: self._join(name, len(rows)) for name in self.layers}
        data = json.dumps(channels | {"about": self.about}, indent=2).encode()
        write_atomic(fs.LocalFileSystem(), str(self.place / _ABOUT), data)
        for number in range(self.shards):
            self._file(number).unlink(missing_ok=True)
        found = self.read()
        assert found is not None, "all of it was just written"
        return found

    def _join(self, name: str, rows: int) -> int:
        """One layer of all shards, one shard in memory at a time; returns its channels."""
        from safetensors import safe_open

        def pieces() -> Iterator[np.ndarray]:
            for number in range(self.shards):
                with safe_open(self._file(number), "np") as shard:
                    names = shard.keys()
                    if name in names:  # else none of its pictures can be read
                        yield shard.get_tensor(name)

        channels = next(pieces()).shape[1]
        self._save(_npy(name), pieces(), (rows, channels), np.dtype(np.float16))
        return int(channels)

    def _save(self, name: str, pieces: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Write arrays one after the other as one NumPy file."""
        with atomic_file(fs.LocalFileSystem(), str(self.place / name)) as file:
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).data)


def _npy(layer: str) -> str:
    return f"{layer.replace(' ', '-')}.npy"


@lru_cache(maxsize=1)
def _encoder(checkpoint: Checkpoint, device: str) -> Any:
    """A process's own copy: Ray's tasks come one after another to the same process."""
    return checkpoint.build().to(device)
