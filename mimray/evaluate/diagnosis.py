"""`mimray analyze`: diagnostics of trained models over pictures, in pieces, and their record.

A piece that is computed is kept, so an analysis that was killed goes on. What a finished one said is
shown again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import fs

from mimray.data.files import write_atomic
from mimray.errors import RunFailed
from mimray.evaluate.diagnosis_files import finding_of, packed_maps
from mimray.evaluate.diagnosis_findings import (
    Draw,
    Findings,
    join,
    record_of,
    relabelled,
    relabelled_record,
)
from mimray.evaluate.diagnosis_kinds import Kind, Options
from mimray.evaluate.diagnosis_parts import Model, Part, Pictures, one_size
from mimray.evaluate.diagnosis_shards import Compute, Piece, Seen, deal, shards_of
from mimray.evaluate.frozen import Record, read_record
from mimray.evaluate.table_files import packed
from mimray.train.parent import tell_finding
from mimray.train.run_folder import to_json

FORMAT = 1  # part of the digest: raise it where the same words would give other numbers
_SHARDS, _RECORD = "shards", "result.json"
Show = Callable[[int], None]
"""Hears how many pictures were looked at, each time that a piece is done."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """One kind of diagnostic of some models; `pictures` is None where none are needed.

    `storage`: a local folder. Travels to Ray's tasks, so it holds no tensors.
    """

    kind: Kind
    models: tuple[Model, ...]
    pictures: Pictures | None
    options: Options
    storage: Path

    # ----- what is computed ---------------------------------------------------------------------------

    @cached_property
    def parts(self) -> list[Part]:
        """Each model, and each two of them where the kind compares and their pictures are of one size."""
        groups: list[tuple[Model, ...]] = [(model,) for model in self.models]
        groups += [pair for pair in self._pairs if one_size(pair)]
        return [Part(self.kind, group, self.options) for group in groups]

    @property
    def _pairs(self) -> list[tuple[Model, Model]]:
        return list(combinations(self.models, 2)) if self.kind.pairs else []

    @property
    def left_out(self) -> list[str]:
        """Comparisons that are not made, each with its reason."""
        return [
            f"{a.label} and {b.label} are not compared: their pictures are of {a.checkpoint.image_size} "
            f"and {b.checkpoint.image_size} px; give both one by --image-size"
            for a, b in self._pairs
            if not one_size((a, b))
        ]

    @cached_property
    def shards(self) -> list[list[np.ndarray]]:
        """Batches of rows, in shards."""
        seen = self.pictures
        return [] if seen is None else shards_of(deal(seen.rows, seen.batch))

    @property
    def total(self) -> int:
        """Pictures that all parts look at together."""
        return 0 if self.pictures is None else len(self.parts) * len(self.pictures.rows)

    @property
    def done(self) -> int:
        """How many of them were looked at in an earlier time."""
        return self.total - self._count(self.missing())

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that the answer depends on."""
        seen = self.pictures
        return {
            "format": FORMAT,
            "kind": self.kind.name,
            "models": [
                {
                    "checkpoint": one.digest,
                    "encoder": one.encoder,
                    "image_size": one.image_size,
                    "window": one.window,
                    "pretrained_windows": one.pretrained_windows,
                    "finetuned": one.finetuned,
                    "drop_layers": one.drop_layers,
                    "drop_from": one.drop_from,
                }
                for _, one in self.models
            ],
            "options": self.options,
            "source": seen and seen.source.digest,
            "rows": seen and hashlib.sha256(seen.rows.tobytes()).hexdigest()[:16],
            "framing": sorted({repr(part.framing) for part in self.parts}) if seen else None,
            "batch": seen and len(deal(seen.rows, seen.batch)[0]),  # more than there are is as many
        }

    @cached_property
    def name(self) -> str:
        """Of the record's folder."""
        told = json.dumps(self.about, sort_keys=True).encode()
        return f"{self.kind.name}-{hashlib.sha256(told).hexdigest()[:8]}"

    @property
    def place(self) -> Path:
        """Where all of it lies."""
        return self.storage / "analyses" / self.name

    # ----- computing it -------------------------------------------------------------------------------

    def check(self) -> None:
        """Build every model and diagnostic. Raises UserError where that cannot be."""
        for part in self.parts:
            part.build("cpu")

    def record(self) -> Record | None:
        """The finished record, if it is there. Raises RunFailed where the storage cannot be read."""
        try:
            return read_record(self.place)
        except OSError as error:
            raise self._failed("read", error) from None

    def missing(self) -> list[Piece]:
        """What is still to be computed; a piece whose file is damaged is."""
        if self.record() is not None:
            return []
        every = (Piece(p, s) for p in range(len(self.parts)) for s in range(len(self.shards)))
        return [piece for piece in every if self.kept(piece) is None]

    def run(self, compute: Compute, draw: Draw, show: Show) -> Record:
        """Compute what is missing, write table, figures and record, and tell MLflow.

        Of a record that is there, maybe since another process wrote it, no more than the labels may be
        others, which are written and drawn again; and MLflow is told what it lacks. Raises RunFailed where
        the storage cannot be written.
        """
        kept = self.record()
        if kept is not None and self._has_labels(kept):
            self._tell(kept)
            return kept
        if kept is None:
            self._compute(compute, show)
            findings, counts = join(self)
            files = self._files(findings, draw)
            record = record_of(self, findings, counts, list(files))
        else:
            files = self._files(self._relabelled(kept), draw)
            record = relabelled_record(self, kept)
        self._write_all(files, record)
        self._tell(record)
        return record

    def _compute(self, compute: Compute, show: Show) -> None:
        """Keep what is missing, piece by piece."""
        missing = self.missing()
        done = self.total - self._count(missing)
        for piece, data in compute(self, missing) if missing else ():
            self._write(self._file(piece), data)
            done += self._count([piece])
            show(done)

    def _has_labels(self, record: Record) -> bool:
        return [old["label"] for old in record["models"]] == [label for label, _ in self.models]

    def _relabelled(self, record: Record) -> Findings:
        try:
            return relabelled(self, record)
        except OSError as error:
            raise self._failed("read", error) from None

    # ----- what it leaves -----------------------------------------------------------------------------

    def _files(self, findings: Findings, draw: Draw) -> dict[str, bytes]:
        """Tables, maps and figures."""
        files = {
            f"{name}.{ending}": data
            for name, rows in findings.tables.items()
            for ending, data in packed(rows).items()
        }
        return files | packed_maps(findings.maps) | draw(findings)

    def _write_all(self, files: dict[str, bytes], record: Record) -> None:
        """The record last, for with it the analysis is finished."""
        for name, data in files.items():
            self._write(self.place / name, data)
        self._write(self.place / _RECORD, to_json(record, indent=2).encode() + b"\n")
        shutil.rmtree(self.place / _SHARDS, ignore_errors=True)

    def _tell(self, record: Record) -> None:
        """MLflow, of which twice is once."""
        names = [name for name in (*record["files"], _RECORD) if (self.place / name).is_file()]
        files = {name: (self.place / name).read_bytes() for name in names}
        for label, checkpoint in self.models:
            tell_finding(checkpoint.weights, finding_of(record, label, files))

    def _write(self, file: Path, data: bytes) -> None:
        try:
            write_atomic(fs.LocalFileSystem(), str(file), data)
        except OSError as error:
            raise self._failed("written", error) from None

    def _failed(self, what: str, error: OSError) -> RunFailed:
        reason = error.strerror or str(error).splitlines()[0]
        return RunFailed(f"--storage {self.storage}: cannot be {what} ({reason})")

    def _count(self, pieces: list[Piece]) -> int:
        """Pictures, each as often as it is looked at."""
        return sum(len(batch) for piece in pieces for batch in self.shards[piece.shard])

    def _file(self, piece: Piece) -> Path:
        return self.place / _SHARDS / f"{piece.part:02d}-{piece.shard:02d}.pt"

    def kept(self, piece: Piece) -> Seen | None:
        """What a piece gave, where it is there and whole."""
        try:
            return Seen.unpack(self._file(piece).read_bytes())
        except OSError:
            return None
