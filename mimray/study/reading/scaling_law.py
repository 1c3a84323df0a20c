"""Fit the law to a study's table, and say what a doubling of each factor would change next.

Only runs of pairs that do not over-fit take part: the law knows no loss that rises. A curve takes three
sizes to see. Of a factor with two, the exponent is not fitted but assumed: the intervals then cover all
of `ASSUMED`. A factor with one size is no part of the law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mimray.study.reading.intervals import CannotSay, Interval, percentile_interval, resampled
from mimray.study.reading.law import Law, sizes_of
from mimray.study.reading.law_fit import Array, LawFit
from mimray.study.reading.law_products import with_products
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.table import Run, StudyTable

ASSUMED = (0.1, 1.0)
_STARTS = (0.2, 0.5, 1.0)


@dataclass(frozen=True)
class FittedLaw:
    """The law of `runs` runs, the root mean square of its `residual`s, and laws of resampled tables.

    `reference` is the run with the lowest loss: where the next step starts.
    """

    law: Law
    runs: int
    residual: float
    resampled: tuple[Law, ...]
    reference: Run

    def interval(self, value: Callable[[Law], float]) -> Interval | None:
        """The 90 % interval of what can be said of a law; None where too few pairs tell it."""
        return percentile_interval([value(law) for law in self.resampled])

    def doubling(self, factor: str) -> tuple[float, Interval | None]:
        """What twice as much of a factor as `reference` has would change."""
        at = self.reference
        return self.law.doubling(factor, at), self.interval(lambda law: law.doubling(factor, at))

    def pays_more(self, one: str, other: str) -> bool | None:
        """Whether a doubling of `one` lowers the loss more than one of `other`; None: cannot say."""
        at = self.reference
        more = self.interval(lambda law: law.doubling(other, at) - law.doubling(one, at))
        if more is None or more[0] <= 0.0 <= more[1]:
            return None
        return more[0] > 0.0


def fit_law(table: StudyTable, draws: int = 400, seed: int = 0) -> FittedLaw:
    """Fit by robust least squares from several starts; intervals by bootstrap over pairs.

    Raises CannotSay where models or data have no known size, no factor varies enough, or there are too
    few runs for so many numbers.
    """
    bad = overfitting_pairs(table)
    runs = [run for run in table.runs if run.pair not in bad]
    if not runs:
        raise CannotSay("a law of runs that do not over-fit takes some")
    fine = " that do not over-fit" if bad else ""
    _check_sizes(runs)
    fit = LawFit(runs)
    if fit.assumed.all():
        raise CannotSay(f"a law takes three sizes of a model or of data, or three lengths{fine}")
    if len(runs) < fit.numbers + 2:
        raise CannotSay(
            f"a law of {fit.numbers} numbers takes {fit.numbers + 2} runs{fine}, and there are {len(runs)}"
        )
    middle = math.sqrt(ASSUMED[0] * ASSUMED[1])
    starts = [np.where(fit.assumed, middle, start) for start in _STARTS]
    fit = with_products(fit, fit.solve(runs, starts), runs)
    best = fit.solve(runs, starts)
    law = fit.law(best)
    residuals = [run.val_loss - law.predict(run) for run in runs]
    return FittedLaw(
        law,
        len(runs),
        float(np.sqrt(np.mean(np.square(residuals)))),
        _resampled(fit, fit.exponents(best), runs, draws, seed),
        min(runs, key=lambda run: run.val_loss),
    )


def _check_sizes(runs: Sequence[Run]) -> None:
    sources = {run.source for run in runs}
    for run in runs:
        sizes = sizes_of(run)
        if math.isnan(sizes["model"]):
            raise CannotSay(f"a law takes the parameters of {run.model}: add a column params")
        if math.isnan(sizes["data"]) or (len(sources) > 1 and sizes["data"] <= 1.0):  # a share
            raise CannotSay(f"a law takes the pictures of {run.data}: add a column images")


def _resampled(
    fit: LawFit, exponents: Array, runs: Sequence[Run], draws: int, seed: int
) -> tuple[Law, ...]:
    """Laws of tables whose pairs are drawn with replacement; none where half of them tell too little.

    Exponents that are assumed are drawn anew, evenly in the logarithm: so the intervals hold what is not
    known of them.
    """
    pairs: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        pairs.setdefault(run.pair, []).append(run)
    generator = np.random.default_rng(seed + 1)
    found = []
    for drawn in resampled(list(pairs.values()), draws, seed):
        low, high = math.log(ASSUMED[0]), math.log(ASSUMED[1])
        assumed = np.exp(generator.uniform(low, high, size=len(exponents)))
        if fit.tells_as_much(drawn):
            start = np.where(fit.assumed, assumed, exponents)
            found.append(fit.law(fit.solve(drawn, [start])))
    return tuple(found) if len(found) >= draws / 2 else ()
