"""The validation loss of a longer training from two shorter ones, learned from models of other sizes.

From the shortest of three lengths to the middle one the loss drops by d, and to the longest by a further
share of d. If each pair's loss is E + c * length**-gamma with an exponent that pairs share, and lengths
double, that share is 2**-gamma: so one share is the saturating power law. Learned is either one share for
all, or one for each data set; which, the other sizes decide among themselves, each left out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mimray.study.reading.intervals import CannotSay, t_quantile
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.table import StudyTable


@dataclass(frozen=True)
class Drops:
    """A pair's loss went down by `first`, then by `second`."""

    model: str
    data: str
    first: float
    second: float


@dataclass(frozen=True)
class Prediction:
    """A pair's validation loss at the longest length, with its 90 % interval (None where the other sizes
    show no spread). `actual`: None where it is not trained so long; `carried`: at the length before."""

    model: str
    data: str
    predicted: float
    low: float | None
    high: float | None
    actual: float | None
    carried: float


def extrapolate(table: StudyTable) -> list[Prediction]:
    """Leave one model out at a time and predict its pairs that do not over-fit at the longest length.

    Which pairs are asked for may depend on that length; a prediction does not see it, for `predict` is
    given nothing of this model but the two losses before. Raises CannotSay for fewer than three lengths
    or where no other model has pairs that do not over-fit.
    """
    lengths = table.lengths()[-3:]
    if len(lengths) < 3:
        raise CannotSay("predicting the longest training from shorter ones needs three lengths")
    bad = overfitting_pairs(table)
    losses = {
        pair: {run.iterations: run.val_loss for run in runs}
        for pair, runs in table.pairs().items()
        if pair not in bad
    }
    asked = {p: own for p, own in losses.items() if lengths[0] in own and lengths[1] in own}
    known = [
        Drops(*pair, own[lengths[0]] - own[lengths[1]], own[lengths[1]] - own[lengths[2]])
        for pair, own in asked.items()
        if lengths[2] in own
    ]
    found = []
    for (model, data), own in asked.items():
        others = [drops for drops in known if drops.model != model]
        if others:
            before = own[lengths[0]], own[lengths[1]]
            predicted, half = predict(*before, data, others)
            low, high = (None, None) if half is None else (predicted - half, predicted + half)
            actual = own.get(lengths[2])
            found.append(Prediction(model, data, predicted, low, high, actual, before[1]))
    if not found:
        raise CannotSay("no two models have pairs that do not over-fit at all of three lengths")
    return found


def mean_error(predictions: Sequence[Prediction]) -> float | None:
    """Mean absolute error over those that have been trained; None where none has."""
    return _mean([abs(p.predicted - p.actual) for p in predictions if p.actual is not None])


def carried_error(predictions: Sequence[Prediction]) -> float | None:
    """The same, had the loss at the length before been taken as it is."""
    return _mean([abs(p.carried - p.actual) for p in predictions if p.actual is not None])


def covers(one: Prediction) -> bool:
    """Whether the 90 % interval holds what came."""
    if one.low is None or one.high is None or one.actual is None:
        return False
    return one.low <= one.actual <= one.high


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def predict(
    shortest: float, middle: float, data: str, others: Sequence[Drops]
) -> tuple[float, float | None]:
    """The loss at the longest length, and half the width of its 90 % interval.

    The interval is Student's for one more value of a line through the origin, from the spread of the
    others about it; None where they are too few to show one.
    """
    way = _better(others)
    share, freedom, spread, weight = way(others, data)
    first = shortest - middle
    if freedom < 1:
        return middle - share * first, None
    half = t_quantile(freedom) * spread * math.sqrt(1.0 + first**2 / weight if weight else 1.0)
    return middle - share * first, half


_Fit = tuple[float, int, float, float]
"""The share, degrees of freedom, standard deviation of the residuals, sum of squared first drops."""
_Way = Callable[[Sequence[Drops], str], _Fit]


def one_share(drops: Sequence[Drops], data: str) -> _Fit:
    """The same share of the drop for all pairs, by least squares."""
    return _fit([list(drops)], drops)


def share_of_data(drops: Sequence[Drops], data: str) -> _Fit:
    """A share for each data set, with one spread for all; one share for all where `data` is not known."""
    groups: dict[str, list[Drops]] = {}
    for one in drops:
        groups.setdefault(one.data, []).append(one)
    if data not in groups or len(drops) == len(groups):
        return one_share(drops, data)
    return _fit(list(groups.values()), groups[data])


def _fit(groups: list[list[Drops]], own: Sequence[Drops]) -> _Fit:
    residuals = [d.second - _share(group) * d.first for group in groups for d in group]
    freedom = len(residuals) - len(groups)
    spread = math.sqrt(math.fsum(r * r for r in residuals) / freedom) if freedom else math.nan
    return _share(own), freedom, spread, math.fsum(d.first**2 for d in own)


def _share(drops: Sequence[Drops]) -> float:
    weight = math.fsum(d.first**2 for d in drops)
    return math.fsum(d.first * d.second for d in drops) / weight if weight else 0.0


def _better(drops: Sequence[Drops]) -> _Way:
    """The way that predicts these models better, each from those that are left; one share where equal."""
    return min((one_share, share_of_data), key=lambda way: _inner_error(way, drops))


def _inner_error(way: _Way, drops: Sequence[Drops]) -> float:
    errors = []
    for one in drops:
        left = [other for other in drops if other.model != one.model]
        if left:
            errors.append(abs(way(left, one.data)[0] * one.first - one.second))
    return _mean(errors) or 0.0
