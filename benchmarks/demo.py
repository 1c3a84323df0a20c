"""The demo as a newcomer meets it: how long it takes, and what the model learned.

Runs the whole `mimray demo` in an empty folder: about three minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks._report import Figure, report

DEMO_SECONDS = 210.0  # what the project allows itself after the installation
HELP_SECONDS = 0.5


def timed(command: list[str], folder: str) -> tuple[float, str]:
    """Seconds and standard output of a process, started without anybody's Ray."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, check=True, text=True
    )
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", help="run there and keep it, to look at the pictures")
    arguments = parser.parse_args()
    mimray = [sys.executable, "-m", "mimray.cli"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or scratch
        helps = statistics.median(timed([*mimray, "--help"], folder)[0] for _ in range(5))
        seconds, out = timed([*mimray, "demo", "--json"], folder)
        result = json.loads(out)
        with open(f"{result['run_dir']}/metrics.jsonl") as file:
            rows = [json.loads(line) for line in file]
        with open(f"{result['run_dir']}/run.json") as file:
            started = json.load(file)["starts"][0]["time"]
    loss, mean, nearest = (result[k] for k in ("val_loss", "fill_visible_mean", "fill_nearest"))
    wall = rows[-1]["time"] - started
    waited = sum(r["speed/data_wait_s"] for r in rows[10:])
    trained = sum(r["speed/seconds"] for r in rows[10:])
    figures = {
        "under visible mean": Figure(
            ratio=1 - loss / mean, target=0.25, ours=loss, theirs=mean, unit="L1"
        ),
        "under nearest pixel": Figure(
            ratio=nearest / loss, target=1.0, ours=loss, theirs=nearest, unit="L1"
        ),
        "demo": Figure(
            ratio=DEMO_SECONDS / seconds, target=1.0, ours=seconds, theirs=DEMO_SECONDS, unit="s"
        ),
        "help": Figure(
            ratio=HELP_SECONDS / helps, target=1.0, ours=helps, theirs=HELP_SECONDS, unit="s"
        ),
        "not starved": Figure(
            ratio=1 - waited / trained, target=0.95, ours=trained - waited, theirs=trained, unit="s"
        ),
        "trainers at work": Figure(
            ratio=wall / seconds, target=0.6, ours=wall, theirs=seconds, unit="s"
        ),
    }
    report("demo", figures, arguments.json)


if __name__ == "__main__":
    main()
