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

from mimray.study.reading.intervals import Interval, bootstrap, t_quantile
from mimray.study.reading.overfitting import split_runs
from mimray.study.reading.table import Run, StudyTable

Point = tuple[float, float]
Points = Sequence[Point] | NDArray[np.float64]
Loss = Callable[[Run], float | None]


@dataclass(frozen=True)
class Correlation:
    """Of `runs` runs. Coefficients are None for fewer than three runs, or where nothing varies; their
    90 % intervals (bootstrap over pairs) where there are fewer than four pairs."""

    runs: int
    pearson: float | None
    pearson_interval: Interval | None
    spearman: float | None
    spearman_interval: Interval | None


@dataclass(frozen=True)
class Line:
    """The least-squares line of a score over a loss: its slope, and how far from it 90 % of further runs
    lie, either side, in the middle of the losses."""

    slope: float
    within: float


def val_loss(run: Run) -> float | None:
    """What stands for a run before it is fine-tuned."""
    return run.val_loss


def train_loss(run: Run) -> float | None:
    """What does not: it cannot see over-fitting."""
    return run.train_loss


def correlations(table: StudyTable, loss: Loss = val_loss) -> dict[str, dict[str, Correlation]]:
    """By task, then by `all`, `not_overfitting` and `overfitting`."""
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
    slope = coefficient * float(np.std(y) / np.std(x))
    residuals = (y - y.mean()) - slope * (x - x.mean())
    freedom = len(points) - 2
    spread = math.sqrt(float(residuals @ residuals) / freedom)
    return Line(slope, t_quantile(freedom) * spread * math.sqrt(1.0 + 1.0 / len(points)))
