"""Which cells over-fit: the validation loss rises with longer training.

On Data Scaling in Masked Image Modeling: over-fitting runs are those in which longer training has the
validation loss go up. All lengths of such a (model, data) pair count as over-fitting, also those before
the rise: that is what splits the 63 published runs into 36 and 27.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mimray.study.reading.table import TOP1, Pair, Run, StudyTable

Step = tuple[int, int]
"""From a length to the next, in iterations."""


@dataclass(frozen=True)
class Overfitting:
    """A pair that over-fits. `rises`: steps at which the validation loss goes up, `raised_by` how much at
    each; `falls`: those at which top-1 goes down."""

    model: str
    data: str
    lengths: tuple[int, ...]
    rises: tuple[Step, ...]
    raised_by: tuple[float, ...]
    falls: tuple[Step, ...]


def overfitting_pairs(table: StudyTable) -> dict[Pair, Overfitting]:
    """The pairs that over-fit, in the order of the table."""
    found = {}
    for (model, data), runs in table.pairs().items():
        if rises := _steps(runs, lambda a, b: b.val_loss > a.val_loss):
            falls = _steps(runs, _top1_falls)
            losses = {run.iterations: run.val_loss for run in runs}
            raised_by = tuple(losses[after] - losses[before] for before, after in rises)
            found[model, data] = Overfitting(model, data, tuple(losses), rises, raised_by, falls)
    return found


def _top1_falls(shorter: Run, longer: Run) -> bool:
    a, b = shorter.scores.get(TOP1), longer.scores.get(TOP1)
    return a is not None and b is not None and b < a


def _steps(runs: Sequence[Run], holds: Callable[[Run, Run], bool]) -> tuple[Step, ...]:
    return tuple((a.iterations, b.iterations) for a, b in itertools.pairwise(runs) if holds(a, b))


def split_runs(table: StudyTable) -> dict[str, list[Run]]:
    """The runs under `all`, `not_overfitting` and `overfitting`; under `all` alone where no pair has two
    lengths, for over-fitting shows only between lengths."""
    bad = overfitting_pairs(table)
    shown = len(table.pairs()) < len(table.runs)
    return {
        "all": list(table.runs),
        "not_overfitting": [run for run in table.runs if shown and run.pair not in bad],
        "overfitting": [run for run in table.runs if run.pair in bad],
    }
