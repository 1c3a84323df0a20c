"""What a sweep's driver does while trials go on: it says how they end, and notes what runs cannot know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mimray.study.cell import Cell
from mimray.study.parent_copy import ParentCopy
from mimray.study.sweeps.folder import Curve, SweepFolder
from mimray.study.sweeps.objective import Objective, known_value
from mimray.study.sweeps.trial import WORST, Result

_UNSEEN = "its record is not seen here; name a run.storage that all hosts share"
_DIED = "its process ended; the same command goes on with it"


class Watch:
    """Hears of every result. `over`: trials that need no more, at first; `total`: of the sweep."""

    def __init__(
        self,
        cells: Sequence[Cell],
        objective: Objective,
        folder: SweepFolder,
        copy: ParentCopy,
        say: Callable[[str], None],
        over: int,
        total: int,
    ) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.objective, self.folder, self.copy = objective, folder, copy
        self.say, self.over, self.total = say, over, total
        self.curves: dict[str, Curve] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune pickles whom it calls, for a restoring that never comes: runs go on from their folders."""
        return object, ()

    def begin(self, at_once: int) -> None:
        """Say what is to come."""
        self.say(
            f"{self.folder.sweep.name}: {self.total - self.over} of {self.total} trials to run, "
            f"{at_once} at a time"
        )

    def started(self, run: str) -> None:
        """Of a trial that Tune has begun with: why it failed before says nothing any more."""
        self.folder.note_failed(run, None)

    def heard(self, result: Result) -> None:
        """Of a trial's validation, or its end."""
        run = result["run"]
        curve = self.curves.setdefault(run, [])
        if not curve:
            self.copy.adopt(self.cells[run])
        if result["progress"] and (not curve or result["progress"] > curve[-1][0]):
            curve.append([result["progress"], result["score"]])

    def ended(self, result: Result) -> None:
        """Of a trial that promises less than others."""
        self.heard(result)
        self.folder.note_stopped(result["run"], result["step"], self.curves[result["run"]])

    def over_with(self, run: str, last: Result) -> None:
        """Of a trial that Tune has closed; `last`: what it told in the end, if anything."""
        cell, folder = self.cells[run], self.folder
        value = known_value(self.objective, cell)
        if value is None and not folder.was_stopped(cell):
            folder.note_failed(run, last.get("failed") or (_UNSEEN if last else _DIED))
        else:
            folder.note_failed(run, None)
        self.over += 1
        self.say(f"{self.over}/{self.total}  {cell.words}: {self._end(cell, value, last)}")
        self.copy.adopt(cell)

    def _end(self, cell: Cell, value: float | None, last: Result) -> str:
        if value is not None:
            return f"{self.objective.label} {value:.4f}"
        if self.folder.was_stopped(cell):
            score = f", skill {last['score']:.4f}" if last["score"] != WORST else ""
            return f"ended at {last['progress']:.0%}{score}"
        return f"failed: {self.folder.failures[cell.name]}"


def tune_callback(watch: Watch, name: Callable[[dict[str, Any]], str]) -> Any:
    """What Tune calls; `name`: of the run, of a trial's config."""
    from ray.tune import Callback

    class Listener(Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.started(name(trial.config))

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Result, **info: Any
        ) -> None:
            watch.heard(result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.over_with(name(trial.config), trial.last_result or {})

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.over_with(name(trial.config), {})

    return Listener()
