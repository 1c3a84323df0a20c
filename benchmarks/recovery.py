"""From the SIGKILL of a trainer to its group's next step, beside a cold start; when stuck ones are noticed.

Real runs of the demo with two trainers. A cold start is the command, from the shell to its first optimiser
step; then one of the trainers is killed, and it counts until the new group's first step. Three rounds,
medians, and where the time goes: seconds from one mark to the next, as the slowest process sees it.
Afterwards one trainer is stopped (SIGSTOP), and one hangs in a step: seconds until the driver has noted
that it ended them. About five minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks._recovery import HANG
from benchmarks._report import Figure, report
from benchmarks._runs import Watched, pretrain_words

ROUNDS = 3
AT_MOST = 1.2  # of a cold start
NOTICED_SECONDS = 60.0
SETTINGS = [
    *("schedule.length=100000it", "run.validate_every=100000it", "run.checkpoint_every=5it"),
    *("run.log_every=1it", "speed.workers=2"),
]
COLD = ["python is up", "imports", "prepared", "Ray is up"]
AGAIN = ["noticed"]
BOTH = ["verified", "controller is up", "group is up", "imported", "joined", "model is there"]
BOTH += ["first pictures", "step"]


def start(folder: Path) -> tuple[Watched, float]:
    """A run, at its first step; when that was."""
    run = Watched(folder, "benchmarks._recovery", *pretrain_words(folder, "demo", *SETTINGS))
    return run, run.wait_for("step")


def trainers(run: Watched) -> dict[int, int]:
    """Of the newest group the process of each rank."""
    return {n["rank"]: n["pid"] for n in run.notes("step")}


def settled(run: Watched) -> None:
    """Wait until the newest group has written a checkpoint."""
    before = run.record().get("steps", 0)
    deadline = time.monotonic() + 180
    while run.record().get("steps", 0) <= before:
        if time.monotonic() > deadline:
            sys.exit(f"no checkpoint: {(run.folder / 'err').read_text()[-3000:]}")
        time.sleep(0.1)


def kill(run: Watched, rank: int) -> tuple[float, float]:
    """SIGKILL for a trainer: when, and when its group's next step had ended."""
    victim = trainers(run)[rank]
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    again = run.wait_for("group is up", after=killed)
    return killed, run.wait_for("step", after=again)


def marks(run: Watched, names: list[str], began: float, ended: float) -> dict[str, float]:
    """Seconds from each mark to the next; where several processes pass it, the last counts."""
    seconds, before = {}, began
    for name in names:
        times = [n["at"] for n in run.notes(name) if began < n["at"] <= ended]
        if times:
            seconds[name] = round(max(times) - before, 3)
            before = max(times)
    return seconds


def processes(run: Watched, began: float, ended: float) -> float:
    """When the last of a group's processes was started, in seconds after something."""
    up = [n for n in run.notes("group is up") if began < n["at"] <= ended]
    return round(max(n["process"] for n in up) - began, 3)


def noticed(run: Watched, began: float) -> float:
    """Seconds until the driver notes another event."""
    before = len(run.record().get("events", []))
    while time.monotonic() < began + 180:
        if len(run.record().get("events", [])) > before:
            break
        time.sleep(0.05)
    return time.monotonic() - began


def stop(run: Watched) -> float:
    """SIGSTOP for a trainer: seconds until that is noticed."""
    settled(run)
    os.kill(trainers(run)[1], signal.SIGSTOP)
    return noticed(run, time.monotonic())


def hang(run: Watched) -> tuple[float, float]:
    """A step that does not end: seconds until that is noticed, and the median step before."""
    settled(run)
    steps = [n["at"] for n in run.notes("step") if n["pid"] == trainers(run)[0]]
    median = statistics.median(b - a for a, b in pairwise(steps))
    (run.folder / HANG).touch()
    return noticed(run, run.wait_for("hangs")), median


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of every entry, over the rounds."""
    return {
        name: round(statistics.median(one.get(name, 0.0) for one in rounds), 3)
        for name in rounds[0]
    }


def limit(figure: float, at_most: float) -> Figure:
    """Seconds that may not be more than so many."""
    return Figure(ratio=at_most / figure, target=1.0, ours=figure, theirs=at_most, unit="s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    draw = random.Random(0)
    cold, again, cold_parts, again_parts, spawned = [], [], [], [], []
    stuck: dict[str, Figure] = {}
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            run, first = start(Path(folder) / "run")
            try:
                cold.append(first - run.began)
                cold_parts.append(marks(run, [*COLD, *BOTH], run.began, first))
                settled(run)
                time.sleep(draw.random())
                killed, step = kill(run, number % 2)
                again.append(step - killed)
                again_parts.append(marks(run, [*AGAIN, *BOTH], killed, step))
                spawned.append(processes(run, killed, step))
                if number == 0:
                    stuck["stopped, noticed"] = limit(stop(run), NOTICED_SECONDS)
                elif number == 1:
                    seconds, median = hang(run)
                    stuck["hung, noticed"] = limit(seconds, max(NOTICED_SECONDS, 10 * median))
            finally:
                run.kill()
    ours, theirs = statistics.median(again), statistics.median(cold)
    killed_figure = Figure(
        ratio=theirs / ours, target=1 / AT_MOST, ours=ours, theirs=theirs, unit="s"
    )
    report(
        "recovery",
        {"killed, of a cold start": killed_figure, **stuck},
        arguments.json,
        killed_s=medians(again_parts),
        cold_s=medians(cold_parts),
        process_s=statistics.median(spawned),
        rounds=[[round(a, 2), round(c, 2)] for a, c in zip(again, cold, strict=True)],
    )


if __name__ == "__main__":
    main()
