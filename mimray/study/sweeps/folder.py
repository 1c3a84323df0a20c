"""`<storage>/sweeps/<name>/`: which trials were ended and which failed, and the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.notes import Notes
from mimray.study.placing import storage_of
from mimray.study.sweeps.sweep import Sweep

Curve = list[list[float]]
"""[progress, score] of every validation."""


class SweepFolder(Notes):
    """`stopped`: by name of the run, {"by", "step", "curve"} of trials that promised less than others;
    `failures`: why others failed, in a line; `pictures`: what those of the objective are."""

    kind = "sweep"
    fields: ClassVar = {"stopped": dict, "failures": dict, "pictures": None}
    stopped: dict[str, dict[str, Any]]
    failures: dict[str, str]
    pictures: str | None

    def __init__(self, sweep: Sweep, cells: list[Cell]) -> None:
        self.sweep = sweep
        super().__init__(storage_of(cells[0]), "sweeps", sweep.name)

    def of_others(self, cells: Sequence[Cell]) -> int:
        """Trials in the table that stands there which are none of `cells`: of other settings, so a new
        table has no row of them."""
        try:
            told = json.loads(self.files.read("table.json") or b"{}")
            rows = [row for row in told["rows"] if row["status"] != "waiting"]
            runs = {row["run"] for row in rows}
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged
            return 0
        return len(runs - {cell.name for cell in cells})

    def remove(self, names: Iterable[str]) -> None:
        """Raises UserError where a file that is there stays."""
        for name in names:
            if self.files.read(name) is not None:
                try:
                    self.files.filesystem.delete_file(self.files.file(name))
                except OSError as error:
                    raise UserError(f"{self.place}/{name}: cannot be removed ({error})") from None

    def was_stopped(self, cell: Cell) -> bool:
        """Whether a trial was ended by the rule that the sweep has now; by another, or none, it goes on."""
        rule, known = self.sweep.stop, self.stopped.get(cell.name)
        return rule is not None and known is not None and known["by"] == rule.model_dump()

    def note_stopped(self, run: str, step: int, curve: Curve) -> None:
        """A trial promised less than others."""
        assert self.sweep.stop is not None
        with self.lock:
            self.stopped[run] = {"by": self.sweep.stop.model_dump(), "step": step, "curve": curve}
            self.save()

    def note_failed(self, run: str, reason: str | None) -> None:
        """Why a trial cannot go on; None for one that has."""
        with self.lock:
            if reason is not None:
                self.failures[run] = reason
            elif self.failures.pop(run, None) is None:
                return
            self.save()
