"""Which step of which cell runs next, and where: the longest cell first, several at once.

Two ways were weighed. Ray Tune, as sweeps use it, keeps processes warm too, but takes all trials for alike:
how many go at once would be what the largest cell allows. A study's cells are unlike and all known before,
so they run in actors of our own, with an account of what is free.

Each step says itself what it needs: a cell of eight trainers is measured by one process. Where the first in
line has no room, nobody else is let onto the hosts that it waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from mimray.evaluate.workers import in_own_words
from mimray.study.cell import Cell
from mimray.study.scaling.account import Account, Need, Taken
from mimray.study.scaling.runners import Actor, Runners, Work
from mimray.study.scaling.steps import Step
from mimray.train.run_folder import RunFolder

_TICK_SECONDS = 1.0
_ATTEMPTS = 2  # of a step whose process or host is lost
_UNSEEN = "its record is not seen here; name a run.storage that all hosts share"
_DIED = "its process ended twice; the same command goes on with it"


class Waiting(NamedTuple):
    """A cell and the steps that it still has; `hours`: all of them, predicted; `lost`: how often its first
    step has lost its process."""

    cell: Cell
    steps: tuple[Step, ...]
    hours: float
    lost: int = 0


class Running(NamedTuple):
    """A step under way."""

    waiting: Waiting
    taken: Taken
    actor: Actor


class Listener(Protocol):
    """Hears of every step, in the driver."""

    def begun(self, cell: Cell, step: Step) -> None: ...

    def ended(self, cell: Cell, step: Step, reason: str | None) -> None:
        """`reason`: why it failed."""
        ...


NeedOf = Callable[[Cell, Step], Need]


class Schedule:
    """Runs the steps of cells until none is left, or somebody asks to stop."""

    def __init__(
        self,
        waiting: Sequence[Waiting],
        account: Account,
        runners: Runners,
        need: NeedOf,
        listener: Listener,
    ) -> None:
        self.queue = sorted(waiting, key=lambda one: -one.hours)
        self.account, self.runners = account, runners
        self.need, self.listener = need, listener
        self.running: dict[Any, Running] = {}
        self.entering: tuple[RunFolder, int] | None = None

    def run(self, stopping: threading.Event) -> None:
        """Until the end. Steps that are under way when somebody asks to stop write a checkpoint first."""
        while (self.queue or self.running) and not stopping.is_set():
            self._start_what_fits()
            self._hear(_TICK_SECONDS)
        if self.running:
            self.runners.ask_to_stop([one.actor for one in self.running.values()])
            self.runners.wait(list(self.running))

    def _start_what_fits(self) -> None:
        closed: set[int] = set()
        for waiting in list(self.queue):
            if self._is_entering() or len(closed) == len(self.account.hosts):
                return
            step, placement = waiting.steps[0], waiting.cell.recipe.speed.placement
            need = self.need(waiting.cell, step)
            near = self.runners.warm(need.share)
            taken = self.account.find(need, placement, closed, near)
            if taken is None:
                closed |= self.account.waiting_for(need, placement)
                continue
            self.queue.remove(waiting)
            self._start(waiting, taken)

    def _is_entering(self) -> bool:
        """Whether a group of trainers has not got its places yet: nobody shall be quicker than it."""
        if self.entering is not None:
            run, starts = self.entering
            if _starts(run) > starts:
                self.entering = None
        return self.entering is not None

    def _start(self, waiting: Waiting, taken: Taken) -> None:
        cell, step = waiting.cell, waiting.steps[0]
        self.account.take(taken)
        if taken.need.layout is not None and (recipe := step.training(cell)) is not None:
            run = RunFolder.of(recipe)
            self.entering = (run, _starts(run))
        self.listener.begun(cell, step)
        reference, actor = self.runners.start(Work(cell, step, taken.place), taken.host)
        self.running[reference] = Running(waiting, taken, actor)

    def _hear(self, seconds: float) -> None:
        """Of steps that have ended; waits for one, but not for long."""
        for reference in self.runners.ended(list(self.running), seconds):
            waiting, taken, actor = self.running.pop(reference)
            actor.busy = False
            self.account.give(taken)
            if taken.need.layout is not None:
                self.entering = None
            answer, gone = self.runners.answer(reference)
            if gone:
                self.runners.lost(actor)
                if waiting.lost + 1 < _ATTEMPTS:
                    self.queue.insert(0, waiting._replace(lost=waiting.lost + 1))
                    continue
            self._ended(waiting, _DIED if gone else _reason(answer))

    def _ended(self, waiting: Waiting, reason: str | None) -> None:
        cell, (step, *others) = waiting.cell, waiting.steps
        if reason is None and step.values(cell) is None:
            reason = _UNSEEN
        self.listener.ended(cell, step, reason)
        if reason is None and others:  # its process is warm, and may have nothing else to do
            self.queue.insert(0, waiting._replace(steps=tuple(others), lost=0))


def _reason(answer: Any) -> str | None:
    """Why a step failed: what its process said, or the error that it ended with."""
    if isinstance(answer, BaseException):
        return str(in_own_words(answer))
    return None if answer is None else str(answer)


def _starts(run: RunFolder) -> int:
    record = run.record()
    return 0 if record is None else len(record["starts"])
