"""Further tasks on frozen features: nearest neighbours and a linear classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mimray.data.collections import check_pair, open_pictures
from mimray.errors import UserError
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.frozen import Question, absolute_data, read_record
from mimray.evaluate.probing import Kind
from mimray.evaluate.workers import Here
from mimray.study.cell import Cell
from mimray.study.placing import storage_of
from mimray.study.scaling.steps import Drawings, Place, Values
from mimray.train.run_folder import RunFolder

_FORWARD = 1 / 3  # of a training step's operations


@dataclass(frozen=True)
class FrozenStep:
    """Satisfies `Step`: top-1 of the last layer's pooled features. `train`, `val`: pictures with labels,
    turned upright where the cell's are."""

    kind: Kind
    train: str
    val: str | None

    @property
    def name(self) -> str:
        return self.kind

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"{self.kind}/top1",)

    def check(self, cells: Sequence[Cell]) -> None:
        if self.val is None:
            raise UserError(
                f"tasks.{self.kind} needs pictures with labels to test on; set data.val, or write "
                f"{self.kind}: {{train: URI, val: URI}}"
            )
        check_pair(open_pictures(self.train, "train"), open_pictures(self.val, "val"))

    def training(self, cell: Cell) -> None:
        return None

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        assert self.val is not None, "it has been checked"
        checkpoint = open_checkpoint(RunFolder.of(cell.recipe).uri)
        asked = Question(
            self.kind,
            checkpoint,
            absolute_data(self.train),
            absolute_data(self.val),
            Path(storage_of(cell)),
            layers="last",
            upright=cell.recipe.data.upright,
            name=self._name(cell),
        )
        asked.answer(drawings.draws.layers, lambda _: None, lambda: nullcontext(Here(place.share)))

    def values(self, cell: Cell) -> Values | None:
        record = read_record(Path(storage_of(cell)) / "evaluate" / self._name(cell))
        return None if record is None else {self.columns[0]: record["chosen"]["top1"]}

    def pictures(self, cell: Cell) -> float:
        assert self.val is not None, "it has been checked"
        pictures = (open_pictures(self.train, "train"), open_pictures(self.val, "val"))
        return _FORWARD * sum(map(len, pictures))

    def _name(self, cell: Cell) -> str:
        # as they were said, so that `status` finds it from any folder
        told = f"{self.train} {self.val}" + " upright" * cell.recipe.data.upright
        return f"{cell.name}-{self.kind}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
