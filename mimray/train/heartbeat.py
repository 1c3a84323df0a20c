"""Signs of life: a trainer that is stopped or stuck is noticed in a minute, not in Ray's ten to thirty.

A thread of each trainer beats into the mailbox and says how its loop is doing. The driver's watchdog
ends a trainer whose beats stay away (stopped, or its host is gone), and all of them when one says that
its step does not end (a collective that waits for somebody who is not coming).
"""

from __future__ import annotations

import logging
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from mimray.train import processes

log = logging.getLogger("mimray")
_BEAT_SECONDS = 2.0
SILENCE_SECONDS = 40.0  # without a beat: the process is stopped, or its host is gone
HANG_SECONDS = 55.0  # in one step, and ten times the median step; a beat later it is a minute
HANG_STEPS = 10.0
DATA_SECONDS = 600.0  # a store that stumbles is asked again; ending trainers would not help it


@dataclass
class Beat:
    """What a trainer says of itself. `began`: the kernel's start time of its process; `seconds`: in its
    present step; `median`: of its recent steps, 0 before the first; `doing`: what the step waits for;
    `group`: see `Mailbox.admit`."""

    rank: int
    pid: int
    began: int
    node: str
    seconds: float
    median: float
    doing: str
    group: str | None = None


class Heart(threading.Thread):
    """A trainer's own; its loop says when a step ends, and what is not a step."""

    def __init__(self, mailbox: Any, rank: int, group: str | None = None) -> None:
        super().__init__(name="heart", daemon=True)
        self.mailbox, self.rank, self.group = mailbox, rank, group
        self.steps: deque[float] = deque(maxlen=50)
        self.since = time.monotonic()
        self.doing = "start"
        self.over = threading.Event()

    def start(self) -> None:
        """Begin to beat, if there is somebody to hear it."""
        if self.mailbox is not None:
            super().start()

    def run(self) -> None:
        node, pid = ray.get_runtime_context().get_node_id(), os.getpid()
        began = processes.start_time(pid) or 0
        while not self.over.wait(_BEAT_SECONDS):
            self._beat(pid, began, node)
        self.doing = "over"
        self._beat(pid, began, node)

    def _beat(self, pid: int, began: int, node: str) -> None:
        steps = list(self.steps)
        median = statistics.median(steps) if steps else 0.0
        seconds = time.monotonic() - self.since
        with suppress(ray.exceptions.RayError):  # the driver is gone, and we go soon
            beat = Beat(self.rank, pid, began, node, seconds, median, self.doing, self.group)
            self.mailbox.beat.remote(beat)

    def stop(self) -> None:
        """The trainer's work is done, and nobody shall wait for another beat."""
        self.over.set()
        if self.is_alive():
            self.join()

    def step_ended(self) -> None:
        """The next one begins, with its pictures."""
        now = time.monotonic()
        self.steps.append(now - self.since)
        self.since, self.doing = now, "data"

    def computing(self) -> None:
        """The step has its pictures."""
        self.doing = "step"

    @contextmanager
    def pause(self) -> Iterator[None]:
        """In here no step is expected to end."""
        before, self.doing, began = self.doing, "pause", time.monotonic()
        yield
        self.since += time.monotonic() - began
        self.doing = before


@dataclass
class Watchdog:
    """The driver's own. Silence is measured by the driver's clock, steps by each trainer's."""

    beats: dict[int, Beat] = field(default_factory=dict)
    heard: dict[int, float] = field(default_factory=dict)
    gone: set[tuple[str, int, int]] = field(default_factory=set)

    def forget(self) -> None:
        """The group has ended, or was; a beat of its trainers that is still on its way says nothing."""
        self.gone |= {(beat.node, beat.pid, beat.began) for beat in self.beats.values()}
        self.beats, self.heard = {}, {}

    def hear(self, beats: list[Beat], now: float) -> None:
        """Take in beats, which have arrived by `now`."""
        for beat in beats:
            if (beat.node, beat.pid, beat.began) in self.gone:
                continue
            self.beats[beat.rank], self.heard[beat.rank] = beat, now
            if beat.doing == "over":
                del self.beats[beat.rank]

    def verdict(self, now: float) -> tuple[list[Beat], str] | None:
        """Trainers to end and why, or None while all is well."""
        silent = [b for r, b in self.beats.items() if now - self.heard[r] > SILENCE_SECONDS]
        if silent:
            ranks = " and ".join(str(b.rank) for b in silent)
            return silent, f"trainer {ranks} has given no sign of life for {SILENCE_SECONDS:.0f} s"
        beats = list(self.beats.values())
        if any(b.doing in ("pause", "start") or not b.median for b in beats):
            return None
        starved = any(b.doing == "data" for b in beats)
        for beat in beats:
            limit = max(DATA_SECONDS if starved else HANG_SECONDS, HANG_STEPS * beat.median)
            if beat.seconds > limit:
                what = "no pictures have come" if starved else "no step has ended"
                return beats, f"{what} for {limit:.0f} s"
        return None


def end_trainers(beats: list[Beat]) -> None:
    """SIGKILL, on the trainers' own hosts; a host that does not answer is left to Ray."""
    for beat in beats:
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(beat.node, soft=False)
        task = _end.options(scheduling_strategy=pin).remote(beat.pid, beat.began)
        try:
            ray.get(task, timeout=5.0)
        except ray.exceptions.RayError:
            log.warning("the host of trainer %d does not answer", beat.rank)


@ray.remote(num_cpus=0, max_retries=0)
def _end(pid: int, began: int) -> None:
    processes.end(pid, began)
