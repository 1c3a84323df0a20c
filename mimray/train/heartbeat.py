"""Signs of life: trainers that are stopped or stuck are noticed in a minute, not in Ray's ten to thirty.

A thread of each trainer beats into the mailbox, with the step its loop is in; the driver's watchdog
ends a trainer whose beats stay away (stopped, or its host is gone), and all of them when no step
ends any more (a collective that waits for somebody who is not coming).
"""

from __future__ import annotations

import logging
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

log = logging.getLogger("mimray")

_BEAT_SECONDS = 2.0
SILENCE_SECONDS = 40.0  # without a beat: the process is stopped, or its host is gone
HANG_SECONDS = 60.0  # without the end of a step, and ten times the median step
_HANG_STEPS = 10.0


@dataclass
class Beat:
    """What a trainer says of itself. `began`: kernel's start time of the process, which tells it from a
    later one of the same number; `step`: last step done; `paused`: validating, saving or starting."""

    rank: int
    pid: int
    began: int
    node: str
    step: int
    paused: bool


class Heart(threading.Thread):
    """A trainer's own; `step` and `paused` are set by its loop."""

    def __init__(self, mailbox: Any, rank: int) -> None:
        super().__init__(name="heart", daemon=True)
        self.mailbox, self.rank = mailbox, rank
        self.step, self.paused = 0, True
        self.over = threading.Event()

    def run(self) -> None:
        node = ray.get_runtime_context().get_node_id()
        pid = os.getpid()
        began = start_time(pid) or 0
        while not self.over.wait(_BEAT_SECONDS):
            with suppress(ray.exceptions.RayError):  # the driver is gone, and we go soon
                beat = Beat(self.rank, pid, began, node, self.step, self.paused)
                self.mailbox.beat.remote(beat)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """In here no step is expected to end."""
        self.paused = True
        yield
        self.paused = False


@dataclass
class Watchdog:
    """The driver's own: judges beats by the driver's clock alone."""

    beats: dict[int, Beat] = field(default_factory=dict)
    heard: dict[int, float] = field(default_factory=dict)
    moved: float = 0.0  # when a step ended last
    steps: list[float] = field(default_factory=list)  # seconds of recent ones

    def forget(self) -> None:
        """Another group of trainers begins."""
        self.beats, self.heard, self.steps, self.moved = {}, {}, [], 0.0

    def hear(self, beats: list[Beat], now: float) -> None:
        """Take in beats, which arrived by `now`."""
        for beat in beats:
            before = self.beats.get(beat.rank)
            if before is not None and beat.step > before.step and beat.rank == 0:
                if self.moved and not before.paused:
                    self.steps += [(now - self.moved) / (beat.step - before.step)]
                    self.steps = self.steps[-50:]
                self.moved = now
            if beat.paused or (before is not None and before.paused):
                self.moved = now
            self.beats[beat.rank], self.heard[beat.rank] = beat, now

    def verdict(self, now: float) -> tuple[list[Beat], str] | None:
        """Trainers to end and why, or None while all is well."""
        silent = [b for r, b in self.beats.items() if now - self.heard[r] > SILENCE_SECONDS]
        if silent:
            ranks = ", ".join(str(b.rank) for b in silent)
            return silent, f"trainer {ranks} has given no sign of life for {SILENCE_SECONDS:.0f} s"
        limit = max(HANG_SECONDS, _HANG_STEPS * statistics.median(self.steps or [0.0]))
        if self.steps and self.moved and now - self.moved > limit:
            return list(self.beats.values()), f"no step has ended for {limit:.0f} s"
        return None


def start_time(pid: int) -> int | None:
    """When a process of this host began, in ticks since the kernel did, or None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19])


def end_trainers(beats: list[Beat]) -> None:
    """SIGKILL, on the trainers' own hosts; a host that does not answer is left to Ray."""
    for beat in beats:
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(beat.node, soft=False)
        task = _end.options(scheduling_strategy=pin).remote(beat.pid, beat.began)
        ready, _ = ray.wait([task], timeout=5.0)
        if not ready:
            log.warning("the host of trainer %d does not answer", beat.rank)


@ray.remote(num_cpus=0, max_retries=0)
def _end(pid: int, began: int) -> None:
    """End one process of this host, if it is still the one that was meant."""
    import signal

    if start_time(pid) == began:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
