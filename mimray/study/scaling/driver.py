"""A study's driver: it hands out the steps, notes how they end, and keeps the table up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from mimray.errors import Stopped
from mimray.evaluate.table_files import table_files
from mimray.study.cell import Cell
from mimray.study.parent_copy import ParentCopy
from mimray.study.scaling.account import Account
from mimray.study.scaling.cells import Laid, said
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.hours import Hours
from mimray.study.scaling.plan import Needs, most_workers
from mimray.study.scaling.runners import Host, Runners, living_hosts
from mimray.study.scaling.schedule import Listener, Schedule, Waiting
from mimray.study.scaling.steps import Drawings, Step, is_finished
from mimray.study.scaling.table import Rows, columns, study_rows

Say = Callable[[str], None]


class Session:
    """A Ray for as long as the block lasts, opened when somebody asks for its hosts."""

    def __init__(self, laid: Laid, steps: Sequence[Step], stack: ExitStack) -> None:
        self.workers, self.stack = most_workers(laid, steps), stack
        self.store = laid.cells[0].recipe.run.tracking
        self._hosts: list[Host] | None = None

    def hosts(self) -> list[Host]:
        """Those that are alive, and what nobody used when they were first asked for."""
        from mimray.train.cluster import ray_session
        from mimray.train.shared import check_store

        if self._hosts is None:
            self.stack.enter_context(ray_session(self.workers))
            check_store(self.store)
            self._hosts = living_hosts()
        return self._hosts


class Book:
    """Satisfies `Listener`: notes in the study's folder, a line for people, and the table."""

    def __init__(
        self, laid: Laid, steps: Sequence[Step], folder: StudyFolder, copy: ParentCopy, say: Say
    ) -> None:
        self.laid, self.steps, self.folder = laid, steps, folder
        self.copy, self.say = copy, say
        self.total = sum(folder.is_chosen(cell.name) for cell in laid.cells)
        self.over = self.total - len(unfinished(laid.cells, steps, folder))

    def begun(self, cell: Cell, step: Step) -> None:
        self.folder.note_begun(cell.name, step.name)

    def ended(self, cell: Cell, step: Step, reason: str | None) -> None:
        self.folder.note_ended(cell.name, step.name, reason)
        self.copy.adopt(cell)
        self.write_table()
        if reason is not None:
            self.say(f"        {said(cell)}, {step.name}: failed: {reason}")
        elif step is self.steps[-1]:
            self.over += 1
            self.say(f"{self.over:>3}/{self.total}  {said(cell)}: {self._found(cell)}")

    def interrupted(self, cell: Cell, step: Step) -> None:
        self.folder.note_ended(cell.name, step.name, None)

    def _found(self, cell: Cell) -> str:
        told: dict[str, Any] = {}
        for step in self.steps:
            told |= step.values(cell) or {}
        names = {"val_loss": "val", "train_loss": "train"}
        figures = [
            f"{names.get(name, name)} {value:.4f}"
            for name, value in told.items()
            if value is not None and not name.startswith(("speed/", "val_skill"))
        ]
        took = sum(one.get("seconds", 0.0) for one in self.folder.seconds[cell.name].values())
        return f"{', '.join(figures)} ({took:.0f} s)"

    def write_table(self) -> tuple[Rows, dict[str, bytes]]:
        """Of all cells, as far as they are."""
        rows = study_rows(self.laid.cells, self.steps, self.folder)
        about = {"name": self.folder.study.name, "uri": self.folder.place}
        files = table_files(rows, columns(self.steps), **about)
        self.folder.write(files)
        return rows, files


def unfinished(cells: Sequence[Cell], steps: Sequence[Step], folder: StudyFolder) -> list[Cell]:
    """Cells that are to be run and have a step to go; a damaged file counts as one."""
    return [cell for cell in cells if folder.is_chosen(cell.name) and _left(cell, steps)]


def _left(cell: Cell, steps: Sequence[Step]) -> tuple[Step, ...]:
    """From the first that is not finished on: what comes behind rests on it."""
    for place, step in enumerate(steps):
        if not is_finished(step, cell):
            return tuple(steps[place:])
    return ()


def run_steps(
    cells: Sequence[Cell],
    steps: Sequence[Step],
    needs: Needs,
    hours: dict[str, Hours],
    session: Session,
    drawings: Drawings,
    listener: Listener,
) -> None:
    """Run what is left of cells. Raises Stopped where somebody asks for it, and RunFailed where hosts are
    lost and the others have no room."""
    from mimray.train.signals import stop_signals

    waiting = [
        Waiting(cell, left, hours[cell.name].clock if cell.name in hours else 0.0)
        for cell in cells
        if (left := _left(cell, steps))
    ]
    hosts = session.hosts()
    # in this order, for Ray puts a handler of SIGTERM in place when it starts
    with stop_signals() as stopping:
        account = Account([host.node for host in hosts])
        runners = Runners(list(hosts), drawings)
        try:
            Schedule(waiting, account, runners, needs.of, listener).run(stopping)
        finally:
            runners.close()
        if stopping.is_set():
            raise Stopped("stopped; the same command goes on")
