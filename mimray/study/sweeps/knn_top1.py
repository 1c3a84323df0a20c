"""What trials are ranked by where nothing is trained for it: the nearest neighbours of frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mimray.errors import UserError
from mimray.evaluate.cells import Draws
from mimray.evaluate.frozen import absolute_data
from mimray.evaluate.workers import Share
from mimray.recipe import Speed
from mimray.study.cell import Cell
from mimray.study.frozen_top1 import FrozenTop1
from mimray.study.placing import storage_of
from mimray.study.sweeps.sweep import Knn
from mimray.train.clerk import Progress


@dataclass(frozen=True)
class KnnTop1:
    """Satisfies `Objective`: top-1 of the nearest neighbours of the last layer's pooled features."""

    pictures: Knn | None
    metric = "knn/top1"
    label = "kNN top-1"

    def learned_from(self, cells: Sequence[Cell]) -> str:
        pairs = [self._pictures(cell) for cell in cells]
        train = pairs[0][0] if len(set(pairs)) == 1 else "each trial's own data.train"
        return f"neighbours among {train}, tested on {pairs[0][1]}"

    def check(self, cells: Sequence[Cell]) -> None:
        if "://" in storage_of(cells[0]):
            raise UserError(
                f"objective=knn: features are mapped from files, and run.storage={storage_of(cells[0])} "
                f"is no local folder"
            )
        self._check_comparable(cells)
        for asked in dict.fromkeys(map(self._of, cells)):
            try:
                asked.check([cell for cell in cells if self._of(cell) == asked])
            except UserError as error:
                raise UserError(f"objective=knn: {error}") from None

    def _check_comparable(self, cells: Sequence[Cell]) -> None:
        """Raises UserError where trials would be tested on pictures of their own, or on the same ones seen
        otherwise. What they learn from may differ, for that is what is compared."""
        tests = list(dict.fromkeys(self._pictures(cell)[1] for cell in cells))
        if len(tests) > 1:
            raise UserError(
                f"objective=knn: trials would be tested on pictures of their own ({tests[0]}, {tests[1]}) "
                f"and would not compare; write knn: {{train: URI, val: URI}}"
            )
        if len({cell.recipe.data.upright for cell in cells}) > 1:
            raise UserError(
                "objective=knn: data.upright differs, and trials would be tested on other pictures; leave "
                "it out of the grid, or take objective: finetune"
            )

    def trainers(self, cell: Cell) -> Speed | None:
        return None

    def measure(self, cell: Cell, share: Share, draws: Draws, progress: Progress) -> None:
        self._of(cell).measure(cell, share, draws.layers, progress.say)

    def value(self, cell: Cell) -> float | None:
        return self._of(cell).value(cell)

    def _of(self, cell: Cell) -> FrozenTop1:
        return FrozenTop1("knn", *self._pictures(cell))

    def _pictures(self, cell: Cell) -> tuple[str, str]:
        """To learn from, and to test."""
        data = cell.recipe.data
        if self.pictures is not None:
            return absolute_data(self.pictures.train), absolute_data(self.pictures.val)
        if data.val is None:
            raise UserError(
                "objective=knn: needs pictures with labels, of which some are for the test; write "
                "knn: {train: URI, val: URI}"
            )
        return absolute_data(data.train), absolute_data(data.val)
