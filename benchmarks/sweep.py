"""What asynchronous successive halving saves, and what it costs, beside the whole grid: real sweeps.

24 recipes (learning rate x mask unit x mask ratio) pre-train a small model on the shipped photos and are
ranked by skill under one reference mask, for several seeds: once all of them, once with trials that promise
little ended. Some learning rates are far off, as in a sweep before the right one is known; how far masks
alone lie apart, at the best rate, stands beside. `mimray sweep` does both, each arm in a folder of its own,
trials two at a time on two cores; nothing is replayed. What both arms trained must be the same to the last
bit, or they would not compare. Finished trials are not repeated, so a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks._report import Figure, report

STEPS, DEVIATIONS = 0.35, 1.0  # targets
GRID = {
    "optim.lr": [0.0001, 0.002, 0.02],
    "mask.unit": [4, 8, 16, 32],
    "mask.ratio": [0.4, 0.7],
}

NOTHING = "best and median do not separate: the comparison says nothing; give it more steps"

Result = dict[str, Any]
"""What `mimray sweep --json` prints."""


def sweep(name: str, data: str, length: int, seed: int) -> dict[str, Any]:
    """What both arms share. Of the photos a tenth are held out."""
    return {
        "name": name,
        "recipe": "demo",
        "set": {
            "model.encoder": "swin_nano",
            "model.image_size": 64,
            "model.window": 4,
            "data.train": data,
            "data.val": None,
            "data.val_fraction": 0.1,
            "optim.batch": 16,
            "schedule.length": f"{length}it",
            "schedule.warmup": "5%",
            "run.validate_every": "6.25%",
            "run.checkpoint_every": "25%",
            "run.log_every": "6.25%",
            "run.tracking": "off",
            "run.seed": seed,
            "speed.workers": 1,
            "speed.cpus_per_worker": 1,
            "speed.device": "cpu",
            "speed.block_rows": 16,  # validation goes by whole blocks
        },
        "grid": GRID,
        "reference_mask": {"unit": 16, "ratio": 0.6},
        "seed": seed,
    }


def run(arm: str, options: argparse.Namespace, seed: int) -> Result:
    """One arm's sweep of one seed, to its end."""
    settings = sweep(f"{arm}-{seed}", options.data, options.length, seed)
    if arm == "asha":
        settings["stop"] = {"grace": 0.0625, "reduction_factor": 4}
    folder = Path(options.folder).absolute() / settings["name"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "mimray.cli", "sweep", str(file), "--json"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*command, f"run.storage={folder}"], stdout=subprocess.PIPE, env=env, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"sweep: {settings['name']} ended with {done.returncode}, see above; the same command goes on "
            "with what is not finished"
        )
    return json.loads(done.stdout)


def scores_of(result: Result) -> dict[str, float]:
    """Of an arm's trials that came to their end, by their values."""
    return {
        " ".join(f"{name}={row[name]}" for name in GRID): row["objective"]
        for row in result["cells"]
        if row["objective"] is not None
    }


def deviation(grids: list[dict[str, float]]) -> float:
    """Standard deviation of a recipe's score over seeds, pooled over the better half of the recipes: those
    that diverge vary more, and would excuse anything."""
    means = {words: statistics.mean(grid[words] for grid in grids) for words in grids[0]}
    better = sorted(means, key=means.__getitem__)[len(means) // 2 :]
    return math.sqrt(
        statistics.mean(statistics.variance(grid[words] for grid in grids) for words in better)
    )


def among_masks(grids: list[dict[str, float]]) -> dict[str, float]:
    """Best over median, and the spread over seeds, of the recipes with the best one's learning rate."""
    means = {words: statistics.mean(grid[words] for grid in grids) for words in grids[0]}
    rate = max(means, key=means.__getitem__).partition(" ")[0]
    own = [words for words in means if words.partition(" ")[0] == rate]
    values = [means[words] for words in own]
    variances = [statistics.variance(grid[words] for grid in grids) for words in own]
    return {
        "best over median": max(values) - statistics.median(values),
        "deviation": math.sqrt(statistics.mean(variances)),
    }


def check_same(whole: list[Result], halved: list[Result]) -> None:
    """End with an error where a recipe that both arms trained to its end has two scores: they would not
    compare, and a share of steps would say nothing."""
    for seed, (grid, half) in enumerate(
        zip(map(scores_of, whole), map(scores_of, halved), strict=True)
    ):
        if other := [words for words, score in half.items() if grid.get(words) != score]:
            sys.exit(
                f"sweep: seed {seed}: {other[0]} scored {half[other[0]]} with asha and "
                f"{grid.get(other[0])} in the grid ({len(other)} of {len(half)} recipes differ); "
                "both arms must train the same"
            )


def compare(whole: list[Result], halved: list[Result]) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures, and what else is worth knowing; of both arms one result a seed."""
    grids, halves = ([scores_of(result) for result in arm] for arm in (whole, halved))
    spread = deviation(grids)
    means = [statistics.mean(grid[words] for grid in grids) for words in grids[0]]
    separation = max(means) - statistics.median(means)
    both = list(zip(grids, halves, strict=True))
    behind = [
        (max(grid.values()) - grid[max(half, key=half.__getitem__)]) / spread for grid, half in both
    ]
    steps = [result["steps"] / result["steps_of_all"] for result in halved]
    share, gap = statistics.mean(steps), max(behind)  # a mean would hide the seed that lost
    figures = {
        "steps": Figure(
            ratio=STEPS / share, target=1.0, ours=share, theirs=STEPS, unit="of the grid's"
        ),
        "behind the grid's best": Figure(
            ratio=DEVIATIONS / max(0.01, gap), target=1.0, ours=gap, theirs=DEVIATIONS,
            unit="standard deviations, of the worst seed",
        ),
        "best over median": Figure(
            ratio=separation / spread, target=1.0, ours=separation, theirs=spread, unit="skill"
        ),
    }  # fmt: skip
    return figures, {
        "real": f"all {2 * len(whole)} sweeps were run, none replayed",
        "trials": len(means),
        "steps": steps,
        "behind": behind,
        "behind on average": statistics.mean(behind),
        "deviation": spread,
        "among masks at the best rate": among_masks(grids),
        "winners": [result["best"] for result in halved],
        "best": [result["best"] for result in whole],
        "says": "best and median separate" if separation > spread else NOTHING,
    }


def main() -> None:
    """Run both arms for all seeds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", default="builtin:photos/train", help="pictures, no labels needed")
    parser.add_argument("--folder", default="runs/benchmark-sweep")
    parser.add_argument("--length", type=int, default=480, help="optimiser steps of a trial")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2, for a spread")
    options = parser.parse_args()
    arms: dict[str, list[Result]] = {"grid": [], "asha": []}
    for seed in range(options.seeds):
        for arm, results in arms.items():
            results.append(run(arm, options, seed))
    check_same(arms["grid"], arms["asha"])
    figures, more = compare(arms["grid"], arms["asha"])
    report("sweep", figures, options.json, **more)


if __name__ == "__main__":
    main()
