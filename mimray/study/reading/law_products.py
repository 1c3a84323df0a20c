"""Whether what one factor is worth depends on another: products of two that the law's sum does not see.

Left out, such a product makes the law sure of what is wrong: its residuals go with the sizes of two
factors, and those of resampled tables do too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from mimray.study.reading.intervals import LEAST_GROUPS
from mimray.study.reading.law_fit import Array, LawFit
from mimray.study.reading.table import Run

_SURE = 0.01
"""Chance of a product that is not there, each. Of 800 tables of a sum with noise 42 were given one."""


def with_products(fit: LawFit, numbers: Array, runs: Sequence[Run]) -> LawFit:
    """This fit with the products that the table shows, the surest first, each beside those before it.

    `numbers` are those of the fit without any. None is added for fewer than seven pairs, or where runs
    are too few to tell another number.
    """
    if len({run.pair for run in runs}) < LEAST_GROUPS:
        return fit
    while len(runs) > fit.numbers + 2:
        chances = {
            both: _chance(fit, LawFit(runs, (*fit.products, both)), numbers, runs)
            for both in itertools.combinations(fit.factors, 2)
            if both not in fit.products
        }
        surest = min(chances, key=chances.__getitem__, default=None)
        if surest is None or chances[surest] > _SURE:
            break
        exponents = fit.exponents(numbers)
        fit = LawFit(runs, (*fit.products, surest))
        numbers = fit.solve(runs, [exponents])
    return fit


def _chance(fit: LawFit, wider: LawFit, numbers: Array, runs: Sequence[Run]) -> float:
    """How likely chance alone is to give the last product so large a part of the residuals.

    By leaving out one pair at a time: runs of a pair are no independent witnesses. The law's own numbers
    may follow, its exponents by their slopes.
    """
    from scipy import stats

    law, exponents = fit.law(numbers), fit.exponents(numbers)
    residuals = np.array([run.val_loss - law.predict(run) for run in runs])
    coefficients = np.array([term.coefficient for term in law.terms.values()])
    slopes = fit.columns(runs).slopes(exponents, coefficients)
    known = np.concatenate([np.zeros(fit.linear, dtype=bool), fit.assumed])
    columns = np.column_stack([slopes[:, ~known], wider.columns(runs).products[:, -1]])
    pairs = {pair: np.array([run.pair != pair for run in runs]) for pair in {r.pair for r in runs}}
    part = _last(columns, residuals)
    parts = np.array([_last(columns[left], residuals[left]) for left in pairs.values()])
    count = len(parts)
    error = math.sqrt((count - 1) / count * float(np.sum((parts - parts.mean()) ** 2)))
    return float(2 * stats.t.sf(abs(part) / error, count - 1)) if error > 0 else 1.0


def _last(columns: Array, values: Array) -> float:
    return float(np.linalg.lstsq(columns, values, rcond=None)[0][-1])
