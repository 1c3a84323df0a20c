"""Which step of which cell runs next, and where: the longest cell first, several at once.

Two ways were weighed. Ray Tune, as sweeps use it, keeps processes warm too, but takes all trials for alike:
how many go at once would be what the largest cell allows. A study's cells are unlike and all known before,
so they run in actors of our own, with an account of what is free.

Each step says itself what it needs: a cell of eight trainers is measured by one process. Where the first in
line has no room, nobody else is let onto the hosts that it waits for.

Hosts come and go. On one that is lost, or that Ray has been told will be, nothing starts any more, and what
ran there goes on elsewhere, however often. What is asked for stays the same: where nothing that is left has
room for it, the study ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from mimray.errors import RunFailed, UserError
from mimray.evaluate.workers import in_own_words
from mimray.study.cell import Cell
from mimray.study.reading.wording import count
from mimray.study.scaling.account import Account, Need, Taken
from mimray.study.scaling.cells import said
from mimray.study.scaling.runners import Actor, Runners, Work
from mimray.study.scaling.steps import Step
from mimray.train.run_folder import RunFolder

_TICK_SECONDS = 1.0
_LOOK_SECONDS = 10.0  # between looks at who is there
_ATTEMPTS = 2  # of a step whose process is lost on a host that is not
_UNSEEN = "its record is not seen here; name a run.storage that all hosts share"
_DIED = "its process ended twice; the same command goes on with it"
_NO_MEMORY = (
    "Ray ended its process twice, for its host ran out of memory; with less on that host the same command "
    "goes on with it"
)


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

    def interrupted(self, cell: Cell, step: Step) -> None:
        """It has not ended, and goes on later."""
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
        self.looked_at = float("-inf")

    def run(self, stopping: threading.Event) -> None:
        """Until the end. Steps that are under way when somebody asks to stop write a checkpoint first.

        Raises RunFailed where hosts are lost and those that are left have no room for any cell.
        """
        while (self.queue or self.running) and not stopping.is_set():
            if time.monotonic() - self.looked_at > _LOOK_SECONDS:
                self._look()
            self._start_what_fits()
            if not self.running:
                raise self._no_room()
            self._hear(_TICK_SECONDS)
        if self.running:
            self.runners.ask_to_stop([one.actor for one in self.running.values()])
            self.runners.wait(list(self.running))
            for waiting, *_ in self.running.values():
                self.listener.interrupted(waiting.cell, waiting.steps[0])

    def _look(self) -> None:
        """See which hosts are there."""
        self.looked_at = time.monotonic()
        away, joined = self.runners.look()
        for host in away:
            self.account.close(host)
        for node in joined:
            self.account.join(node)

    def _no_room(self) -> RunFailed:
        """Nothing runs, and still nothing fits."""
        first, to_go = self.queue[0], count(len(self.queue), "cell")
        step = first.steps[0]
        need = self.need(first.cell, step)
        return RunFailed(
            f"hosts are lost, and those that are left have no room for {said(first.cell)}, {step.name} "
            f"({need.cpus:g} CPUs and {need.gpus:g} GPUs), with {to_go} to go; start another, and the same "
            f"command goes on"
        )

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
            reason = _how_lost(answer) if gone else _reason(answer)
            if reason is None or not self._goes_on(waiting, taken, gone):
                self._ended(waiting, reason)

    def _goes_on(self, waiting: Waiting, taken: Taken, gone: bool) -> bool:
        """Whether a step that has failed is tried again, for its process is lost (`gone`) or its host."""
        self._look()
        if taken.is_on(self.account.away):
            again = waiting  # that was no attempt
        elif gone and waiting.lost + 1 < _ATTEMPTS:
            again = waiting._replace(lost=waiting.lost + 1)
        else:
            return False
        self.listener.interrupted(waiting.cell, waiting.steps[0])
        self.queue.insert(0, again)
        return True

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


def _how_lost(answer: Any) -> str:
    return _NO_MEMORY if "OOM" in str(answer) else _DIED  # as Ray's memory monitor has it


def _starts(run: RunFolder) -> int:
    try:
        record = run.record()
    except UserError:  # a damaged one: whoever starts there says so, and fails alone
        record = None
    return 0 if record is None else len(record["starts"])
