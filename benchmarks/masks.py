"""What masks and AvgDist cost at 192 px on one core, for a batch of 2,048.

Masks beside one NumPy permutation a picture, as the official generator draws them (random masks at
the same unit, whatever the strategy); AvgDist beside scipy's exact Euclidean distance transform.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from benchmarks._report import Figure, report
from mimray.mim.masks import STRATEGIES, average_distance, draw, hidden_cells, to_pixels

BATCH, SIZE, PATCH, RATIO = 2048, 192, 4, 0.6
CASES = [(strategy, 32) for strategy in STRATEGIES] + [("random", 4)]
TARGETS = {("random", 32): 5.0}
ROUNDS, FEW = 21, 3


def official(unit: int) -> list[np.ndarray]:
    """A permutation of the cells a picture; the first are hidden; each cell repeated to patches."""
    side = SIZE // unit
    hidden = hidden_cells("random", side, side, RATIO)
    masks = []
    for _ in range(BATCH):
        mask = np.zeros(side * side, dtype=int)
        mask[np.random.permutation(side * side)[:hidden]] = 1
        cells = mask.reshape(side, side)
        masks.append(cells.repeat(unit // PATCH, axis=0).repeat(unit // PATCH, axis=1))
    return masks


def scipy_average(pixels: np.ndarray) -> list[float]:
    """AvgDist of masks in pixels, one transform a picture."""
    return [float(distance_transform_edt(hidden)[hidden].mean()) for hidden in pixels]


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median seconds of both, taken in turns after one call to warm up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for times, function in zip(seconds, (ours, theirs), strict=True):
            start = time.perf_counter()
            function()
            if round_number:
                times.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def drawing() -> dict[str, Figure]:
    """Masks a batch, milliseconds."""
    figures = {}
    seed = torch.arange(BATCH)
    for strategy, unit in CASES:
        ours, theirs = side_by_side(
            lambda strategy=strategy, unit=unit: draw(strategy, SIZE, unit, PATCH, RATIO, seed),
            lambda unit=unit: official(unit),
            ROUNDS,
        )
        figures[f"{strategy}, unit {unit}"] = Figure(
            ratio=theirs / ours,
            target=TARGETS.get((strategy, unit), 0.0),
            ours=1e3 * ours,
            theirs=1e3 * theirs,
            unit="ms",
        )
    return figures


def distances(unit: int) -> dict[str, Figure]:
    """AvgDist of a batch, seconds, beside scipy and beside the one second that is asked."""
    hidden = draw("random", SIZE, unit, PATCH, RATIO, torch.arange(BATCH))
    pixels = to_pixels(hidden, PATCH).numpy()
    np.testing.assert_allclose(
        average_distance(hidden[:32], PATCH), scipy_average(pixels[:32]), rtol=1e-12
    )
    ours, theirs = side_by_side(
        lambda: average_distance(hidden, PATCH), lambda: scipy_average(pixels), FEW
    )
    beside = {"ratio": theirs / ours, "target": 0.0, "ours": ours, "theirs": theirs, "unit": "s"}
    second = {"ratio": 1.0 / ours, "target": 1.0, "ours": ours, "theirs": 1.0, "unit": "s"}
    return {
        f"AvgDist, unit {unit}, scipy": Figure(**beside),
        f"AvgDist, unit {unit}, 1 s": Figure(**second),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = drawing()
    for unit in (32, 4):
        figures.update(distances(unit))
    report("masks", figures, arguments.json)


if __name__ == "__main__":
    main()
