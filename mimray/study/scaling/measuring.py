"""Pictures a second of each encoder, by twenty real steps where its cells will run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mimray.data.files import join
from mimray.study.cell import Cell
from mimray.study.scaling.steps import Drawings, Place, Values, train
from mimray.train.profile import shortened
from mimray.train.run_folder import RunFolder, to_json


@dataclass(frozen=True)
class MeasureStep:
    """Satisfies `Step`: a short run that leaves nothing but its speed, below the study's folder `place`."""

    place: str
    name = "measure"
    columns = ()

    def check(self, cells: Sequence[Cell]) -> None:
        pass  # as pre-training

    def training(self, cell: Cell) -> Any:
        return shortened(cell.recipe, self._notes(cell).uri)

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        short = self.training(cell)
        run = RunFolder.of(short)
        try:
            train(short, place, drawings)
            # the first row warms up; validation and checkpoints are in no row's seconds
            rates = [row["speed/images_per_s"] for row in run.rows()[1:]]
            told = to_json({"images_per_s": sorted(rates)[len(rates) // 2]}).encode()
        finally:
            with suppress(FileNotFoundError):  # a run that is refused has no folder
                run.filesystem.delete_dir(run.path)
        self._notes(cell).write("speed.json", told)

    def values(self, cell: Cell) -> Values | None:
        told = self._notes(cell).read("speed.json")
        return None if told is None else {"images_per_s": json.loads(told)["images_per_s"]}

    def pictures(self, cell: Cell) -> float:
        return 26.0 * cell.recipe.optim.batch

    def _notes(self, cell: Cell) -> RunFolder:
        return RunFolder(join(self.place, "measured", cell.name))
