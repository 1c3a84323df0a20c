"""How far a cell is, from folders alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.steps import Step
from mimray.train.run_folder import RunFolder

LEFT_OUT = "left out"
_NOT_FINITE = "not finite"  # as runs and steps say what they failed of
_TAIL = 4096  # bytes of `metrics.jsonl` that hold its last row


class State(NamedTuple):
    """`status`: waiting, running, stopped, failed, finished, or left out by the budget; `step`: the first
    that is not finished; `done`: share of the cell, by what its steps cost; `left`: hours of computing,
    predicted; `reason`: why it failed."""

    status: str
    step: str | None
    done: float
    left: float | None
    reason: str | None = None

    @property
    def diverged(self) -> bool:
        """Whether its step failed for a loss, or what it was to be computed of, was no number any more."""
        return self.status == "failed" and _NOT_FINITE in (self.reason or "")


def state_of(cell: Cell, steps: Sequence[Step], folder: StudyFolder) -> State:
    """From its run, its records and the study's notes."""
    hours = folder.predicted.get(cell.name, {})
    failure = folder.failures.get(cell.name)
    why = None if failure is None else failure["reason"]
    past, whole = 0.0, sum(hours.get(step.name, 0.0) for step in steps)
    for place, step in enumerate(steps):
        try:
            if step.values(cell) is not None:
                past += hours.get(step.name, 0.0)
                continue
            status, share = _of_step(cell, step, begun=place > 0)
            if folder.is_under_way(cell.name, step.name):
                status = "running"
            elif status == "stopped" and folder.is_driven():
                status = "waiting"  # for its turn: nobody stopped it
        except UserError as error:  # a damaged file
            return State("failed", step.name, 0.0, None, str(error))
        past += share * hours.get(step.name, 0.0)
        if failure is not None and status != "running":
            status = "failed"
        if not folder.is_chosen(cell.name) and status in ("waiting", "stopped"):
            status = LEFT_OUT
        reserved = folder.reserved.get(cell.name) or 1.0
        done = past / whole if whole else (place + share) / len(steps)
        left = (whole - past) / reserved if whole else None
        return State(status, step.name, done, left, why)
    return State("finished", None, 1.0, 0.0)


def settle(cells: Sequence[Cell], steps: Sequence[Step], folder: StudyFolder) -> None:
    """Note what was under way when a driver was killed as having taken the time to its last row of
    metrics."""
    for cell in cells:
        for step in steps:
            noted = folder.seconds.get(cell.name, {}).get(step.name)
            if noted is None or "seconds" in noted:
                continue
            recipe = step.training(cell)
            row = None if recipe is None else _last_row(RunFolder.of(recipe))
            at = noted["began"] if row is None else float(row["time"])
            folder.note_ended(cell.name, step.name, None, at)


def _of_step(cell: Cell, step: Step, begun: bool) -> tuple[str, float]:
    """Status and share of a step that is not finished; `begun`: those before it are."""
    recipe = step.training(cell)
    if recipe is None:
        return ("stopped" if begun else "waiting"), 0.0
    run = RunFolder.of(recipe)
    record = run.record()
    if record is None:
        return ("stopped" if begun else "waiting"), 0.0
    row = _last_row(run)
    share = 0.0 if row is None else row["step"] / record["total_steps"]
    # one that says `running` is under way only if a driver says so too: else both were killed
    return ("failed" if record["status"] == "failed" else "stopped"), share


def _last_row(run: RunFolder) -> dict[str, Any] | None:
    """The newest of `metrics.jsonl`, without reading all of it."""
    path = run.file("metrics.jsonl")
    if run.filesystem.get_file_info(path).size is None:
        return None
    with run.filesystem.open_input_file(path) as file:
        size = file.size()
        file.seek(max(0, size - _TAIL))
        tail: bytes = file.read()
    for line in reversed(tail.split(b"\n")[:-1]):
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:  # the first one was cut
            continue
        return row
    return None
