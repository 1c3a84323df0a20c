"""What the last step in length, model or data was worth: differences between cells that differ in it alone.

They need no law. Each is a mean over independent groups (models, or data sets where models are compared)
with Student's 90 % interval: with few groups it is wide, and may say nothing. Where cells are chosen by the
loss that is compared, chance alone makes a change of it: such a gain has no interval.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mimray.study.reading.intervals import Interval, mean_interval
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.table import Run, StudyTable
from mimray.study.reading.wording import in_iterations

CHOSEN_BY_LOSS = ("length_not_overfitting", "data_overfitting")
"""Factors whose cells are chosen by the very loss that is compared."""


@dataclass(frozen=True)
class Change:
    """Mean of a difference over groups, per doubling where the step has a size. `interval`: None for one
    group, or where the cells are chosen by their loss."""

    mean: float
    interval: Interval | None
    groups: int


@dataclass(frozen=True)
class Gain:
    """A step of a factor: `length`, `model`, `data` or `source` (other data); of `length` also on the most
    data alone (`length_most_data`) and where cells do not over-fit (`length_not_overfitting`), of `data`
    also where they do (`data_overfitting`).

    `before`, `after`: what the step is between, one name each where all compared cells agree; `data`: what
    the cells before it were trained on; `steps`: how many are compared; `loss`, `scores`: change of the
    validation loss and of each task's score, per doubling, but for `source`, where two data sets are two
    data sets.
    """

    factor: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    data: tuple[str, ...]
    steps: int
    loss: Change
    scores: dict[str, Change]


@dataclass(frozen=True)
class _Step:
    before: Run
    after: Run
    doublings: float = 1.0


def gains(table: StudyTable) -> list[Gain]:
    """The last step of each factor, where the table has cells that show it.

    A pair over-fits where its loss rises with length. So `length` is over all pairs: those that are left
    when the rising ones are gone fall even if the length does nothing. All but `length` are compared at
    the table's longest length, `model`, `data` and `source` without pairs that over-fit, for there both
    sides of a comparison are chosen alike.
    """
    bad = overfitting_pairs(table)
    longest = table.lengths()[-1]
    end = [run for run in table.runs if run.iterations == longest]
    fine_end = [run for run in end if run.pair not in bad]
    longer = _last(_steps(table.runs, _pair, _length), _length)
    most = _most_data(table.runs)
    on_most = [step for step in longer if step.before.data == most]
    falling = [step for step in longer if step.before.pair not in bad]
    more_data = _steps(end, _model_and_source, _images)
    found = [
        _gain("length", longer, _model, table.tasks),
        _gain("length_most_data", _part(on_most, longer), _model, table.tasks),
        _gain("length_not_overfitting", _part(falling, longer), _model, table.tasks),
        _gain("model", _last(_steps(fine_end, _data, _parameters), _parameters), _data, table.tasks),
        _gain("data", _last(_steps(fine_end, _model_and_source, _images), _images), _model, table.tasks),
        _gain("data_overfitting", [s for s in more_data if s.before.pair in bad], _model, table.tasks),
        *(_gain("source", steps, _model, table.tasks) for steps in _other_sources(fine_end)),
    ]  # fmt: skip
    return [gain for gain in found if gain is not None]


# ----- what varies, and what is held ----------------------------------------------------------------------


def _length(run: Run) -> float | None:
    return float(run.iterations)


def _length_name(run: Run) -> str:
    return in_iterations(run.iterations)


def _parameters(run: Run) -> float | None:
    return run.parameters


def _images(run: Run) -> float | None:
    return run.images


def _model(run: Run) -> str:
    return run.model


def _data(run: Run) -> str:
    return run.data


def _pair(run: Run) -> Hashable:
    return run.pair


def _model_and_source(run: Run) -> Hashable:
    return run.model, run.source


# ----- which cells are compared ---------------------------------------------------------------------------

_Size = Callable[[Run], float | None]


def _steps(runs: Sequence[Run], held: Callable[[Run], Hashable], size: _Size) -> list[_Step]:
    """Neighbours in `size` among the runs that are alike in what is `held`."""
    families: dict[Hashable, list[tuple[float, Run]]] = {}
    for run in runs:
        if (value := size(run)) is not None:
            families.setdefault(held(run), []).append((value, run))
    steps = []
    for family in families.values():
        family.sort(key=lambda item: item[0])
        for (small, before), (large, after) in itertools.pairwise(family):
            if large > small:
                steps.append(_Step(before, after, math.log2(large / small)))
    return steps


def _last(steps: Sequence[_Step], size: _Size) -> list[_Step]:
    """The steps between the two sizes that are the table's end."""
    ends = [(size(step.after) or 0.0, size(step.before) or 0.0) for step in steps]
    return [s for s, end in zip(steps, ends, strict=True) if end == max(ends)]


def _part(steps: Sequence[_Step], of: Sequence[_Step]) -> Sequence[_Step]:
    """None of them where they are all that there are: then they say nothing of their own."""
    return steps if len(steps) < len(of) else ()


def _usual_source(runs: Sequence[Run]) -> str:
    return Counter(run.source for run in runs).most_common(1)[0][0]


def _most_data(runs: Sequence[Run]) -> str | None:
    """The data set with the most pictures of the source that most runs are of; None where that source has
    one data set, or nobody knows which of them is the largest."""
    usual = _usual_source(runs)
    own = [run for run in runs if run.source == usual]
    largest = _largest(own)
    return None if largest is None or all(r.data == largest.data for r in own) else largest.data


def _largest(runs: Sequence[Run]) -> Run | None:
    """A run on the most pictures of a source; None where one has no known number, or two have the most."""
    sizes = {run.data: run.images for run in runs}
    first = max(runs, key=lambda run: run.images or 0.0)
    unknown = None in sizes.values() or list(sizes.values()).count(first.images) > 1
    return None if unknown and len(sizes) > 1 else first


def _other_sources(runs: Sequence[Run]) -> list[list[_Step]]:
    """From the whole of the source that most runs are of to each other source, at the same model."""
    if not runs:
        return []
    usual = _usual_source(runs)
    families: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        families.setdefault((run.source, run.model), []).append(run)
    whole = {which: most for which, own in families.items() if (most := _largest(own)) is not None}
    return [
        [
            _Step(before, after)
            for (source, model), after in whole.items()
            if source == other and (before := whole.get((usual, model))) is not None
        ]
        for other in dict.fromkeys(run.source for run in runs)
        if other != usual
    ]


# ----- what they say --------------------------------------------------------------------------------------


def _gain(
    factor: str, steps: Sequence[_Step], group: Callable[[Run], str], tasks: Sequence[str]
) -> Gain | None:
    if not steps:
        return None
    scored = {t: [s for s in steps if t in s.before.scores and t in s.after.scores] for t in tasks}
    name = {"length": _length_name, "model": _model}.get(factor.partition("_")[0], _data)
    losses = [(step, step.after.val_loss - step.before.val_loss) for step in steps]
    tested = factor not in CHOSEN_BY_LOSS
    return Gain(
        factor,
        tuple(dict.fromkeys(name(step.before) for step in steps)),
        tuple(dict.fromkeys(name(step.after) for step in steps)),
        tuple(dict.fromkeys(step.before.data for step in steps)),
        len(steps),
        _change(losses, group, tested),
        {
            task: _change(
                [(s, s.after.scores[task] - s.before.scores[task]) for s in own], group, tested
            )
            for task, own in scored.items()
            if own
        },
    )


def _change(
    differences: Sequence[tuple[_Step, float]], group: Callable[[Run], str], tested: bool
) -> Change:
    groups: dict[str, list[float]] = {}
    for step, difference in differences:
        groups.setdefault(group(step.before), []).append(difference / step.doublings)
    means = [float(np.mean(values)) for values in groups.values()]
    return Change(float(np.mean(means)), mean_interval(means) if tested else None, len(means))
