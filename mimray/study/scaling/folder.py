"""`<storage>/studies/<name>/`: the study, what no run's folder can know of it, and its results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from mimray.recipe import whole
from mimray.study.notes import Notes
from mimray.study.placing import storage_of
from mimray.study.scaling.cells import FILE, Laid, as_yaml
from mimray.train.fence import Fence


class StudyFolder(Notes):
    """`status`: waiting, running, or how the last start ended. `compared`: training pictures whose loss is
    measured, and `images`, those of each subset, once the data have been opened; `val`: validation
    pictures; `params`: of each model. `failures`: by name of the run, in which step and why. `seconds`: by
    name of the run and step, when it `began` the last time, what it had taken `before` that, and once it is
    over the `seconds` of all times together, those of its starts included. `predicted`: in hours of
    the `unit`, by name of the run and step; `reserved`: units that a run reserves while it goes on.
    `budget`, `chosen`: what was asked for, and the runs that it pays for; None for all.
    """

    kind = "study"
    fields: ClassVar = {
        "status": "waiting",
        **dict.fromkeys(("compared", "val"), 0),
        **dict.fromkeys(("images", "params", "failures", "seconds", "predicted"), dict),
        "unit": "core-hours",
        "reserved": dict,
        **dict.fromkeys(("budget", "chosen")),
    }
    status: str
    compared: int
    val: int
    images: dict[str, int]
    params: dict[str, int]
    failures: dict[str, dict[str, str]]
    seconds: dict[str, dict[str, dict[str, float]]]
    predicted: dict[str, dict[str, float]]
    unit: str
    reserved: dict[str, float]
    budget: float | None
    chosen: list[str] | None

    def __init__(self, laid: Laid) -> None:
        self.study, self.laid = laid.study, laid
        super().__init__(storage_of(laid.cells[0]), "studies", laid.study.name)

    def begin(self) -> None:
        """The study is under way: what it is goes beside its notes, to be read from any folder (but for
        pictures that it names from here, for their names are a part of the cells' names)."""
        own = {"run.storage": storage_of(self.laid.cells[0])}
        changes: dict[str, Any] = {"set": self.study.set | own, "recipe": whole(self.study.recipe)}
        if (tuning := self.study.finetune) is not None:
            changes["finetune"] = tuning.model_copy(update={"recipe": whole(tuning.recipe)})
        study = self.study.model_copy(update=changes)
        self.write({FILE: as_yaml(study).encode()})
        self.save()

    @contextmanager
    def held(self) -> Iterator[None]:
        """As `Notes.held`; from now on nobody takes the study of a driver that was killed for under way."""
        with super().held():
            if self.status == "running":
                self.status = "stopped"
                self.save()
            yield

    # ----- cells --------------------------------------------------------------------------------------

    def is_under_way(self, run: str, step: str) -> bool:
        """Whether a step was handed over by a driver that lives."""
        noted = self.seconds.get(run, {}).get(step, {})
        return "began" in noted and "seconds" not in noted and self.is_driven()

    def is_driven(self) -> bool:
        """Whether somebody runs the study: as it is when this folder is first asked."""
        return self.status == "running" and self._has_driver

    @cached_property
    def _has_driver(self) -> bool:  # on another host it takes seconds to tell, and every cell asks
        return Fence(self.files).is_held()

    def is_chosen(self, run: str) -> bool:
        """Whether a cell is run at all."""
        return self.chosen is None or run in self.chosen

    def note_begun(self, run: str, step: str) -> None:
        """A step of a cell has been handed over; what failed before may go well now."""
        with self.lock:
            self.failures.pop(run, None)
            steps = self.seconds.setdefault(run, {})
            before = steps.get(step, {}).get("seconds", 0.0)
            steps[step] = {"began": time.time(), "before": before}
            self.save()

    def note_ended(self, run: str, step: str, reason: str | None, at: float | None = None) -> None:
        """It has come back, finished or not, or was heard of for the last time `at` seconds since 1970;
        `reason`: why it failed."""
        with self.lock:
            noted = self.seconds[run][step]
            took = (time.time() if at is None else at) - noted["began"]
            noted["seconds"] = noted.get("before", 0.0) + max(0.0, took)
            if reason is not None:
                self.failures[run] = {"step": step, "reason": reason}
            self.save()
