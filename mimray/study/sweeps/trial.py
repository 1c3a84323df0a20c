"""One trial of a sweep: a pre-training that tells every validation, and what ranks it in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mimray.errors import Stopped, UserError
from mimray.evaluate.cells import Draws, Quiet
from mimray.evaluate.workers import finished, in_own_words
from mimray.study.cell import Cell
from mimray.study.placing import Plan, placed, wait_for_room
from mimray.study.sweeps.objective import Objective
from mimray.train.run_folder import RunFolder
from mimray.train.spool import rows_after

Result = dict[str, Any]
"""What Tune is told: `run` and `step`; `progress`, the share of the run that is done; `score`, by which
trials are ended; `objective`, by which they are ranked, `WORST` where it is not known yet."""
Tell = Callable[[Result], None]
WORST = -1e9
_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Trial:
    """What a trial's process is given. `score`: the metric that validations tell; `plan`: what it may
    take."""

    cell: Cell
    objective: Objective
    score: str
    plan: Plan
    draws: Draws

    def run(self, tell: Tell) -> None:
        """Go on with the trial, to its end. A run that is finished only tells what it found.

        Raises Stopped where nobody wants to hear more, UserError or RunFailed.
        """
        from mimray.train.launch import launch

        recipe, here = placed(self.cell.recipe, self.plan.share)
        reporter = Reporter(self, tell)
        reporter.read()
        if not here:
            wait_for_room(recipe.speed)
        record, _ = launch(recipe, reporter, self.draws.loss, here=here)
        reporter.total = record["total_steps"]
        reporter.read()
        if self.objective.value(self.cell) is None:
            self._measure(here)
        value = self.objective.value(self.cell)
        last = record["final"].get(self.score)
        tell(self.result(record["steps"], record["steps"], last, value))

    def _measure(self, here: bool) -> None:
        """In this process, which has what it takes, or none of it where a group of trainers measures; or in
        one of its own, after a training by a group."""
        trainers = self.objective.trainers(self.cell)
        if here or trainers is not None:
            if trainers is not None:
                wait_for_room(trainers)
            self.objective.measure(self.cell, self.plan.share, self.draws, Quiet())
            return
        import ray

        # beside the trial's placement group, which has room for nothing
        options = self.plan.measuring.options() | {"scheduling_strategy": "DEFAULT"}
        task = ray.remote(**options)(_measure_elsewhere)
        ((_, answer),) = finished({task.remote(self): None})
        if isinstance(answer, BaseException):
            raise in_own_words(answer) from None

    def curve(self) -> list[list[float]]:
        """[progress, score] of the validations that its run's folder has."""
        run = RunFolder.of(self.cell.recipe)
        try:
            record = run.record()
        except UserError:  # a damaged one: the trial says so when its turn comes
            return []
        if record is None:
            return []
        return [
            [row["step"] / record["total_steps"], _finite(row[self.score])]
            for row in rows_after(run, 0)
            if self.score in row
        ]

    def result(
        self, step: int, total: int, score: float | None, value: float | None = None
    ) -> Result:
        """Scores that are not finite are the worst that there are."""
        return {
            "run": self.cell.name,
            "step": step,
            "progress": min(1.0, step / total),
            "score": _finite(score),
            "objective": _finite(value),
        }

    def failure(self, reason: str) -> Result:
        """What a trial tells that cannot go on."""
        return self.result(0, 1, None) | {"failed": reason}


class Reporter(Quiet):
    """Satisfies `Progress`: tells validations as they come, each once, also those of an earlier start.

    Mail may lose rows and the folder has them late, so both are looked at.
    """

    def __init__(self, trial: Trial, tell: Tell) -> None:
        self.trial, self.tell = trial, tell
        self.run = RunFolder.of(trial.cell.recipe)
        record = self.run.record()
        self.total = 0 if record is None else record["total_steps"]
        self.told, self.looked_at = 0, 0.0

    def row(self, row: dict[str, Any], total: int) -> None:
        self.total = total
        if time.monotonic() - self.looked_at > _LOOK_SECONDS:
            self.read()
        self._validation(row)

    def read(self) -> None:
        """Tell what the folder has and nobody was told."""
        self.looked_at = time.monotonic()
        for row in rows_after(self.run, self.told):
            self._validation(row)

    def _validation(self, row: dict[str, Any]) -> None:
        step, trial = row["step"], self.trial
        if trial.score not in row or step <= self.told or not self.total:
            return
        self.told = step
        value = row[trial.score] if trial.objective.metric == trial.score else None
        try:
            self.tell(trial.result(step, self.total, row[trial.score], value))
        except SystemExit:  # Tune's answer where a trial has been ended
            raise Stopped("promises less than others") from None


def _measure_elsewhere(trial: Trial) -> None:
    import torch

    share = trial.plan.measuring
    torch.set_num_threads(share.threads)
    trial.objective.measure(trial.cell, share, trial.draws, Quiet())


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else WORST
