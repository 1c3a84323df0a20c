"""What the order itself costs: seconds and memory for ImageNet-1K, ImageNet-22K and a billion rows.

Each size in a process of its own: hold 5,000 rows out, take half of the rest, and plan the first
2,048 blocks of a second epoch for 8 trainers at batch 2,048. No pictures are read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks._report import Figure, report
from mimray.data.order import Order, held_out
from mimray.data.plan import Plan
from mimray.data.rowset import RowSet
from mimray.hashing import Purpose

SIZES = {"1.28 million": 1_281_167, "14.2 million": 14_197_122, "1 billion": 1_000_000_000}
GROUP, BATCH, WORKERS = 128, 2048, 8


def measure(rows: int) -> dict[str, float]:
    """Seconds of each step, and MiB at its end beyond what was there before."""
    out: dict[str, float] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    groups = np.full(rows // GROUP, GROUP, dtype=np.int64)
    size = len(groups) * GROUP
    gone = held_out(size, 0.02, 0)
    out["hold out"] = time.perf_counter() - began
    began = time.perf_counter()
    half = RowSet.smallest(size, size // 2, Purpose.SUBSET, 0).without(gone)
    out["choose half"] = time.perf_counter() - began
    began = time.perf_counter()
    order = Order(groups, half, 0, 8192)
    out["order"] = time.perf_counter() - began
    per_epoch = len(order) // BATCH
    began = time.perf_counter()
    plan = Plan(order, BATCH, 128, WORKERS, per_epoch, 2 * per_epoch, 256)
    plan.block_of_all(0)
    out["first block"] = time.perf_counter() - began
    began = time.perf_counter()
    numbers = range(1, min(plan.blocks, 2048 // WORKERS))
    for number in numbers:
        plan.block_of_all(number)
    out["a block"] = (time.perf_counter() - began) / (len(numbers) * WORKERS)
    out["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    out["table MiB"] = size * 8 / 2**20
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows:
        print(json.dumps(measure(arguments.rows)))
        return
    costs = {}
    for name, rows in SIZES.items():
        command = [sys.executable, "-m", "benchmarks.plan_cost", "--rows", str(rows)]
        costs[name] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    figures = {
        name: Figure(
            ratio=cost["table MiB"] / cost["MiB"],
            target=4.0 if name == "1 billion" else 0.0,  # far from a table of all rows
            ours=cost["MiB"],
            theirs=cost["table MiB"],
            unit="MiB",
        )
        for name, cost in costs.items()
    }
    report("plan_cost", figures, arguments.json, seconds=costs)


if __name__ == "__main__":
    main()
