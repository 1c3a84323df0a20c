"""Further tasks on frozen features: nearest neighbours and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mimray.data.collections import open_pictures
from mimray.errors import UserError
from mimray.evaluate.probing import Kind
from mimray.study.cell import Cell
from mimray.study.frozen_top1 import FrozenTop1
from mimray.study.scaling.steps import Drawings, Place, Values

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
        self._asked.check(cells)

    def training(self, cell: Cell) -> None:
        return None

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        self._asked.measure(cell, place.share, drawings.draws.layers, lambda _: None)

    def values(self, cell: Cell) -> Values | None:
        value = None if self.val is None else self._asked.value(cell)
        return None if value is None else {self.columns[0]: value}

    def pictures(self, cell: Cell) -> float:
        asked = self._asked
        pictures = (open_pictures(asked.train, "train"), open_pictures(asked.val, "val"))
        return _FORWARD * sum(map(len, pictures))

    @property
    def _asked(self) -> FrozenTop1:
        """Of pictures as they were said, so that `status` finds the record from any folder."""
        assert self.val is not None, "it has been checked"
        return FrozenTop1(self.kind, self.train, self.val)
