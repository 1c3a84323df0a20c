"""How well a loss goes together with each task's score.

The third paper draws it and names no coefficient: both are given, Pearson's and Spearman's, for all runs,
those of pairs that do not over-fit, and those of pairs that do. Where the table has training losses, they
are compared too: over-fitting lowers them while the score falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimray.study.reading.intervals import LEVEL, Interval, bootstrap
from mimray.study.reading.overfitting import split_runs
from mimray.study.reading.table import Run, StudyTable

Point = tuple[float, float]
Points = Sequence[Point] | NDArray[np.float64]
Loss = Callable[[Run], float | None]


@dataclass(frozen=True)
class Correlation:
    """Of `runs` runs. Coefficients are None for fewer than three runs, or where nothing varies; their
    90 % intervals (bootstrap over pairs) where there are fewer than seven pairs."""

    runs: int
    pearson: float | None
    pearson_interval: Interval | None
    spearman: float | None
    spearman_interval: Interval | None


@dataclass(frozen=True)
class Line:
    """A least-squares line of a score over a loss, through `middle`."""

    slope: float
    middle: Point

    def off(self, point: Point) -> float:
        """How far above the line a point lies."""
        return point[1] - self.middle[1] - self.slope * (point[0] - self.middle[0])


def val_loss(run: Run) -> float | None:
    """What stands for a run before it is fine-tuned."""
    return run.val_loss


def train_loss(run: Run) -> float | None:
    """What does not: it cannot see over-fitting."""
    return run.train_loss


def correlations(table: StudyTable, loss: Loss = val_loss) -> dict[str, dict[str, Correlation]]:
    """By task, then by `all`, `not_overfitting` and `overfitting`; the last two are of no runs where no
    pair shows whether it over-fits."""
    kinds = split_runs(table)
    return {
        task: {kind: _correlate(runs, task, loss) for kind, runs in kinds.items()}
        for task in table.tasks
    }


def _correlate(runs: Sequence[Run], task: str, loss: Loss) -> Correlation:
    groups: dict[tuple[str, str], list[Point]] = {}
    for run in runs:
        if (value := loss(run)) is not None and task in run.scores:
            groups.setdefault(run.pair, []).append((value, run.scores[task]))
    points = [point for group in groups.values() for point in group]
    each = list(groups.values())
    return Correlation(
        len(points),
        pearson(points),
        bootstrap(each, pearson),
        spearman(points),
        bootstrap(each, spearman),
    )


def pearson(points: Points) -> float | None:
    """Pearson's coefficient; None for fewer than three points or where one side does not vary."""
    if len(points) < 3:
        return None
    x, y = np.asarray(points, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(points: Points) -> float | None:
    """Spearman's coefficient: Pearson's of the ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    if len(points) < 3:
        return None
    return pearson(rankdata(np.asarray(points, dtype=float), axis=0))


def line(points: Points) -> Line | None:
    """The line through the points; None where there is no coefficient."""
    coefficient = pearson(points)
    if coefficient is None:
        return None
    x, y = np.asarray(points, dtype=float).T
    return Line(coefficient * float(np.std(y) / np.std(x)), (float(x.mean()), float(y.mean())))


def off_others_line(models: Sequence[Sequence[Point]]) -> float | None:
    """How far from the line of the other models' runs 90 % of a model's runs lie, either side.

    Runs of a model share what sets it apart from others, so each model is left out in turn. Of n
    distances the ceil(0.9 (n + 1))-th, as in conformal prediction; None for fewer than three models, or
    too few runs to have one.
    """
    if len(models) < 3:
        return None
    off: list[float] = []
    for number, own in enumerate(models):
        fitted = line([point for n, other in enumerate(models) if n != number for point in other])
        if fitted is None:
            return None
        off += [abs(fitted.off(point)) for point in own]
    place = math.ceil(LEVEL * (len(off) + 1))
    return sorted(off)[place - 1] if place <= len(off) else None
