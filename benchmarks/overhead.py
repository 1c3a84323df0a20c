"""Steps a second under Ray Train, MLflow and checkpoints, beside the same steps in a bare loop.

The demo's model with one trainer, fed noise: the data stream has benchmarks of its own. Each step makes
a row, and so something for MLflow; there is a checkpoint every few seconds, a hundred times as often as
the recipes ask. The bare loop draws masks, steps and sets the learning rate in one process with as many
threads, and does nothing else: not even the guard that leaves out what is not finite.

Both processes are warm and take turns: while one works, all processes of the other are stopped
(SIGSTOP), so that what Ray, the driver and MLflow do beside the trainer costs the run and not the bare
loop. Validation is left out, for a bare loop has as much of it. Three minutes.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import Figure, report
from benchmarks._runs import Watched, cpu_seconds, pretrain_words

TURNS, SECONDS = 8, 8.0
SETTLE = 0.5  # seconds of a turn that are not counted: caches fill, Ray answers what has waited
WARM, LEAST = 20, 10  # steps before the first turn, and in each
TARGETS = {"cpu": 0.95, "cuda": 0.99}
BATCH = {"cpu": 16, "cuda": 256}  # a GPU would wait for the host at less
SETTINGS = [
    *("schedule.length=1000000it", "run.validate_every=1000000it", "run.checkpoint_every=50it"),
    *("run.log_every=1it", "speed.workers=1", "speed.compile=false"),
]

Interval = tuple[float, float]


def turn(loop: Watched, seconds: float) -> tuple[Interval, dict[str, float]]:
    """Let one go on for a while: when, and the seconds of CPU that each of its processes used."""
    before = cpu_seconds(loop.process.pid)
    loop.signal(signal.SIGCONT)
    began = time.monotonic()
    time.sleep(seconds)
    loop.signal(signal.SIGSTOP)
    interval = (began + SETTLE, time.monotonic())
    after = cpu_seconds(loop.process.pid)
    return interval, {name: after[name] - before.get(name, 0.0) for name in after}


def within(notes: list[dict[str, Any]], interval: Interval) -> list[dict[str, Any]]:
    """The steps that ended in an interval."""
    steps = [n for n in notes if interval[0] <= n["at"] <= interval[1]]
    if len(steps) < LEAST:
        sys.exit(f"{len(steps)} steps in a turn: the machine is busy, or --seconds too few")
    return steps


def rate(steps: list[dict[str, Any]]) -> float:
    """Steps a second."""
    return (len(steps) - 1) / (steps[-1]["at"] - steps[0]["at"])


def parts(turns: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Mean milliseconds a step of everything that was timed, and of the whole step."""
    steps = sum(len(one) - 1 for one in turns)
    names = ["at", *(name for name in turns[0][0] if name not in ("what", "at", "pid"))]
    means = {
        name: round(1e3 * sum(one[-1][name] - one[0][name] for one in turns) / steps, 3)
        for name in names
    }
    return {"whole": means.pop("at"), **means}


def cpu(used: dict[str, float], turns: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Milliseconds of CPU a step, by process."""
    steps = sum(len(one) for one in turns)
    return {name: round(1e3 * seconds / steps, 2) for name, seconds in used.items() if seconds}


def measure(folder: Path, turns: int, seconds: float, device: str) -> tuple[dict, dict]:
    """Figures, and what else is worth knowing."""
    settings = [*SETTINGS, f"optim.batch={BATCH[device]}"]
    theirs = Watched(folder / "bare", "benchmarks._overhead", "bare", "demo", *settings)
    theirs.wait_for("step", WARM)
    theirs.signal(signal.SIGSTOP)
    words = pretrain_words(folder / "run", "demo", *settings)
    ours = Watched(folder / "run", "benchmarks._overhead", *words)
    try:
        ours.wait_for("step", WARM)
        ours.signal(signal.SIGSTOP)
        intervals: dict[Watched, list[Interval]] = {ours: [], theirs: []}
        used: dict[Watched, dict[str, float]] = {ours: {}, theirs: {}}
        for number in range(turns):
            for loop in (ours, theirs) if number % 2 else (theirs, ours):
                interval, now = turn(loop, seconds)
                intervals[loop].append(interval)
                used[loop] = {name: used[loop].get(name, 0.0) + now[name] for name in now}
        ours.signal(signal.SIGCONT)
        ours.end()
    finally:
        ours.kill()
        theirs.kill()
    steps = {loop: [within(loop.notes("step"), i) for i in intervals[loop]] for loop in intervals}
    whole = {loop: parts(steps[loop]) for loop in steps}
    pairs = [(rate(a), rate(b)) for a, b in zip(steps[ours], steps[theirs], strict=True)]
    figure = Figure(
        ratio=statistics.median(a / b for a, b in pairs),
        target=TARGETS[device],
        ours=statistics.median(a for a, _ in pairs),
        theirs=statistics.median(b for _, b in pairs),
        unit="steps/s",
    )
    return {f"step rate, {device}": figure}, {
        "rounds": [round(a / b, 3) for a, b in pairs],
        "ms_a_step": whole[ours],
        "ms_a_step_bare": whole[theirs],
        "cpu_ms_a_step": cpu(used[ours], steps[ours]),
        "cpu_ms_a_step_bare": cpu(used[theirs], steps[theirs]),
        "threads": [n["count"] for n in ours.notes("threads")],
        "steps": [sum(len(one) for one in steps[loop]) for loop in (ours, theirs)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each loop")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a turn")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        figures, more = measure(Path(folder), arguments.turns, arguments.seconds, device)
    report("overhead", figures, arguments.json, **more)


if __name__ == "__main__":
    main()
