"""What a study adds to its cells, and what a warm Ray saves each of them at its start.

A study of twelve tiny cells on the photos that come with mimray: the seconds of the whole command against
the sum of what its cells took, from handing each step over to its end. Each cell asks for all CPUs of the
host, so one goes at a time: several at once would hide what the study adds. The start of a cell is the time
from handing it over to the end of its first training step; of all but the first two it is warm. A cold one
is that of the same cell by `mimray pretrain`, from the command to the end of the first step. Five minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._report import Figure, report
from benchmarks._runs import Watched
from mimray.train.cluster import private_cpus

STUDY = """
recipe: demo
set: {{speed.workers: 1, speed.device: cpu, speed.cpus_per_worker: {cpus}, schedule.warmup: 10%,
      run.validate_every: 50%, run.checkpoint_every: 50%, run.log_every: 1it, optim.lr: 1.0e-3,
      run.tracking: sqlite:///{folder}/mlflow.db, run.storage: {folder}/runs}}
encoders: [swin_nano, swin_micro]
subsets: [25%, 50%, 100%]
lengths: [{short}, {long}]
"""


def study(folder: Path, short: int, long: int) -> str:
    """What its file says."""
    return STUDY.format(folder=folder, cpus=private_cpus(workers=1), short=short, long=long)


def run_study(folder: Path, short: int, long: int) -> tuple[float, float, dict[str, Any]]:
    """When the command began, what it took, and the study's notes."""
    file = folder / "twelve.yaml"
    file.write_text(study(folder, short, long))
    began = time.time()
    asked = Watched(folder / "study", "mimray.cli", "study", "run", str(file), "--json")
    status = asked.process.wait()
    seconds = time.time() - began
    if status:
        sys.exit(f"the study ended with {status}: {(asked.folder / 'err').read_text()[-3000:]}")
    notes = json.loads((folder / "runs" / "studies" / "twelve" / "study.json").read_text())
    return began, seconds, notes


def first_step(run: Path) -> float:
    """When the first training step of a run ended, in seconds since 1970."""
    with open(run / "metrics.jsonl") as rows:
        return float(json.loads(next(rows))["time"])


def cold_start(folder: Path, run: Path) -> float:
    """Seconds from the command to the end of the first step, of a study's cell by itself."""
    words = [f"run.storage={folder}/cold", "run.name=run"]
    words += ["speed.cpus_per_worker=null"]  # its data are read by others, who need a CPU too
    began = time.time()
    alone = Watched(folder / "alone", "mimray.cli", "pretrain", str(run / "recipe.yaml"), *words)
    try:
        rows = folder / "cold" / "run" / "metrics.jsonl"
        while not rows.is_file() or not rows.stat().st_size:
            if alone.process.poll() is not None:
                sys.exit(f"the run ended: {(alone.folder / 'err').read_text()[-3000:]}")
            time.sleep(0.05)
        return first_step(rows.parent) - began
    finally:
        alone.end()


def measure(folder: Path, short: int, long: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures, and what else is worth knowing."""
    began, seconds, notes = run_study(folder, short, long)
    cells = {
        name: sum(step["seconds"] for step in steps.values())
        for name, steps in notes["seconds"].items()
    }
    runs = sorted(cells, key=lambda name: notes["seconds"][name]["pretrain"]["began"])
    starts = [
        first_step(folder / "runs" / name) - notes["seconds"][name]["pretrain"]["began"]
        for name in runs
    ]
    warm = statistics.median(starts[2:])
    cold = cold_start(folder, folder / "runs" / runs[-1])
    own = sum(cells.values())
    figures = {
        "total_over_cells": Figure(
            ratio=own / seconds, target=1 / 1.15, ours=seconds, theirs=own, unit="s"
        ),
        "warm_start": Figure(ratio=cold / warm, target=2.0, ours=warm, theirs=cold, unit="s"),
    }
    return figures, {
        "cells": len(cells),
        "total_over_cells_as_stated": seconds / own,
        "warm_over_cold": warm / cold,
        "starts_s": [round(start, 2) for start in starts],
        "first_start_with_its_command_s": first_step(folder / "runs" / runs[0]) - began,
        "cells_s": [round(cells[name], 2) for name in runs],
    }


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", type=int, default=60, help="steps of the shorter cells")
    parser.add_argument("--long", type=int, default=120, help="of the longer ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, more = measure(Path(folder), options.short, options.long)
    report("study", figures, options.json, **more)


if __name__ == "__main__":
    main()
