"""Frozen features of a set of pictures: computed once, shard by shard, and mapped from files.

Every layer has shards of its own, so an extraction that was killed goes on, and one that asks for other
layers computes what is not there (`LayerFiles`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import fs

from mimray.data.files import write_atomic
from mimray.data.framing import Framing, evaluation_framing
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.decoding import decoded
from mimray.evaluate.layer_files import Features, LayerFiles

SHARD_ROWS = 1024
FORMAT = (
    1  # part of the digest: raise it where the same words would give other features or other files
)
_BATCH = {"cuda": 64, "cpu": 16}
"""Pictures of a forward pass. On CPUs a host has many tasks, and each has their activations in memory."""
_LARGEST = 65504.0  # of float16


@dataclass
class Extraction:
    """What is to be computed: `layers` of a checkpoint, pooled, for `rows` of a source.

    `folder`: of all features; those of this extraction lie below it under its digest, of which `layers`
    are no part. `upright`: as `data.upright`. Travels to Ray's tasks, so it imports no torch.
    """

    checkpoint: Checkpoint
    source: Source
    rows: np.ndarray
    layers: tuple[str, ...]
    pooling: str
    folder: Path
    upright: bool = False

    @cached_property
    def framing(self) -> Framing:
        """As classification is validated."""
        return evaluation_framing(self.checkpoint.image_size, self.upright)

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that the features of a layer depend on, whichever are asked for."""
        one = self.checkpoint
        rows = hashlib.sha256(np.asarray(self.rows, dtype=np.int64).tobytes()).hexdigest()[:16]
        return {
            "format": FORMAT,
            "checkpoint": one.digest,
            "encoder": one.encoder,
            "window": one.window,
            "pretrained_windows": one.pretrained_windows,
            "finetuned": one.finetuned,
            "drop_layers": one.drop_layers,
            "drop_from": one.drop_from,
            "source": self.source.digest,
            "rows": rows,
            "framing": repr(self.framing),
            "pooling": self.pooling,
        }

    @cached_property
    def place(self) -> Path:
        """Where these features lie."""
        told = json.dumps(self.about, sort_keys=True).encode()
        return self.folder / hashlib.sha256(told).hexdigest()[:16]

    @cached_property
    def files(self) -> LayerFiles:
        """Of these features, and of other layers of the same."""
        return LayerFiles(self.place, math.ceil(len(self.rows) / SHARD_ROWS))

    def missing(self) -> list[int]:
        """Numbers of the shards of which a layer is still to be computed; none once all are whole."""
        layers = self.files.unjoined(self.layers)
        return [number for number in range(self.files.shards) if self._missing(layers, number)]

    def _missing(self, layers: Sequence[str], number: int) -> list[str]:
        return [name for name in layers if self.files.shard(name, number) is None]

    def read(self) -> Features | None:
        """The features, where all layers are whole."""
        return self.files.read(self.layers)

    def join(self) -> Features:
        """Make one file of every layer, once all of its shards are there.

        Raises UserError where none of the pictures can be read, or this host does not see the shards.
        """
        for name in self.files.unjoined(self.layers):
            if self.files.join(name) == 0:
                raise UserError(f"{self.source.uri}: none of its pictures can be read")
        if (found := self.read()) is None:
            raise UserError(
                f"{self.place}: what other hosts wrote there is not seen here, or not the same pictures "
                f"could be read every time; name a --storage that all hosts share, or remove the folder"
            )
        about = json.dumps(self.about, indent=2).encode() + b"\n"  # for whoever finds the folder
        write_atomic(fs.LocalFileSystem(), str(self.place / "about.json"), about)
        self.files.remove_shards(self.layers)
        return found

    # ----- a shard ------------------------------------------------------------------------------------

    def compute(self, number: int, device: str = "cpu", threads: int = 1) -> None:
        """Compute those layers of a shard that are missing, and write them; `threads` decode ahead of the
        encoder.

        Raises UserError where features are not finite.
        """
        layers = self._missing(self.files.unjoined(self.layers), number)
        if not layers:  # another process was quicker
            return
        rows, parts = self._features(number, layers, device, threads)
        for name in layers:
            values = [part[name] for part in parts] or [np.zeros(0, np.float16)]
            self.files.write_shard(name, number, rows, np.concatenate(values))

    def _features(
        self, number: int, layers: list[str], device: str, threads: int
    ) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """The rows of a shard that can be read, and float16 features of one batch of them after another."""
        import torch

        from mimray.downstream.features import pooled_features
        from mimray.mim.normalisation import normalise

        encoder = _encoder(self.checkpoint, device)
        seen, parts = [np.zeros(0, np.int64)], []
        rows = self.rows[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]
        size = _BATCH[device]
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        for block in decoded(self.source, batches, self.framing, threads):
            readable = block["reason"] == 0
            if not readable.any():
                continue
            seen.append(block["row"][readable])
            images = torch.from_numpy(block["image"][readable]).to(device).permute(0, 3, 1, 2)
            found = pooled_features(encoder, normalise(images), layers, self.pooling)  # type: ignore[arg-type]
            halves = {name: self._half(name, values) for name, values in found.items()}
            parts.append({name: values.cpu().numpy() for name, values in halves.items()})
        return np.concatenate(seen), parts

    def _half(self, name: str, values: Any) -> Any:
        """As float16. What is larger than it can say is held at its largest: probes standardise, and
        neighbours compare directions, so a few such channels do little."""
        if not values.isfinite().all():
            raise UserError(
                f"--from {self.checkpoint.weights}: layer {name!r} gives features that are not finite; "
                f"has its run diverged? Take an earlier checkpoint"
            )
        return values.clamp(-_LARGEST, _LARGEST).half()


@lru_cache(maxsize=1)
def _encoder(checkpoint: Checkpoint, device: str) -> Any:
    """A process's own copy: Ray's tasks come one after another to the same process."""
    return checkpoint.build().to(device)
