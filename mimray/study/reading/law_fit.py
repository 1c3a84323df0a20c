"""The law's numbers by robust least squares, with their slopes in closed form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimray.study.reading.law import FACTORS, Both, Law, Term, sizes_of
from mimray.study.reading.table import Run

Array = NDArray[np.float64]

_BOUNDS = (0.05, 3.0)  # of exponents: flatter is a logarithm, steeper a step
_EXACT = 1e-6  # a spread of residuals that is none


@dataclass(frozen=True)
class Columns:
    """A row for each run: 1 and which other source it is of; logarithms of its sizes; their products."""

    sources: Array
    logs: Array
    products: Array

    def linear(self, exponents: Array) -> Array:
        """The slopes in all numbers but the exponents."""
        return np.column_stack([self.sources, np.exp(-self.logs * exponents), self.products])

    def slopes(self, exponents: Array, coefficients: Array) -> Array:
        """The slopes in all numbers."""
        powers = np.exp(-self.logs * exponents)
        return np.column_stack([self.linear(exponents), -self.logs * powers * coefficients])


class LawFit:
    """The law's numbers as one vector: floor, shifts of the other sources, coefficients of the terms and of
    `products`, exponents.

    `factors`: those with two sizes or more; `assumed`: for each whether it has two only, so that no
    curve can be seen; `numbers`: how many the table has to tell.
    """

    def __init__(self, runs: Sequence[Run], products: Sequence[Both] = ()) -> None:
        levels = _levels(runs)
        self.sources = [source for source, _ in Counter(r.source for r in runs).most_common()]
        self.factors = [factor for factor in FACTORS if levels[factor] > 1]
        self.assumed = np.array([levels[factor] < 3 for factor in self.factors], dtype=bool)
        self.products = tuple(products)
        self.centre = self._logs(runs).mean(axis=0)
        self._terms = slice(len(self.sources), len(self.sources) + len(self.factors))
        self.linear = self._terms.stop + len(self.products)
        self.numbers = self.linear + int((~self.assumed).sum())

    def tells_as_much(self, runs: Sequence[Run]) -> bool:
        """Whether these runs, some of the fit's own, still have all its sources and sizes."""
        levels = _levels(runs)
        return {run.source for run in runs} == set(self.sources) and all(
            levels[factor] >= (2 if assumed else 3)
            for factor, assumed in zip(self.factors, self.assumed, strict=True)
        )

    def law(self, numbers: Array) -> Law:
        """The vector by its names."""
        shifts = dict.fromkeys(self.sources, 0.0)
        shifts.update(
            zip(self.sources[1:], map(float, numbers[1 : self._terms.start]), strict=True)
        )
        parts = zip(numbers[self._terms], self.exponents(numbers), self.centre, self.assumed,
                    strict=True)  # fmt: skip
        terms = [Term(float(a), float(e), math.exp(log), bool(known)) for a, e, log, known in parts]
        products = map(float, numbers[self._terms.stop : self.linear])
        return Law(
            float(numbers[0]),
            dict(zip(self.factors, terms, strict=True)),
            shifts,
            dict(zip(self.products, products, strict=True)),
        )

    def exponents(self, numbers: Array) -> Array:
        """The part of the vector that is not linear in the loss."""
        return numbers[self.linear :]

    def solve(self, runs: Sequence[Run], starts: Sequence[Array]) -> Array:
        """The vector of the least absolute residuals, over all starts (exponents)."""
        from scipy.optimize import least_squares

        losses = np.array([run.val_loss for run in runs])
        table = self.columns(runs)

        def residuals(numbers: Array) -> Array:
            predicted: Array = table.linear(self.exponents(numbers)) @ numbers[: self.linear]
            return predicted - losses

        def slopes(numbers: Array) -> Array:
            return table.slopes(self.exponents(numbers), numbers[self._terms])

        found = []
        for exponents in starts:
            own = table.linear(exponents)
            start = np.concatenate([np.linalg.lstsq(own, losses, rcond=None)[0], exponents])
            start[0] = max(start[0], 0.0)
            spread = max(_spread(own @ start[: self.linear] - losses), _EXACT)
            found.append(
                least_squares(residuals, start, slopes, self._bounds(exponents), x_scale="jac",
                              loss="soft_l1", f_scale=spread, max_nfev=200)
            )  # fmt: skip
        best: Array = min(found, key=lambda result: float(np.abs(result.fun).sum())).x
        return best

    def columns(self, runs: Sequence[Run]) -> Columns:
        """What the law's numbers are multiplied with, a row for each run."""
        logs = self._logs(runs) - self.centre
        shifted = [[1.0, *(float(run.source == s) for s in self.sources[1:])] for run in runs]
        products = [
            logs[:, [self.factors.index(f) for f in both]].prod(axis=1) for both in self.products
        ]
        return Columns(np.array(shifted), logs, np.array(products).reshape(-1, len(runs)).T)

    def _logs(self, runs: Sequence[Run]) -> Array:
        sizes = [[sizes_of(run)[factor] for factor in self.factors] for run in runs]
        return np.log(np.array(sizes).reshape(len(runs), len(self.factors)))

    def _bounds(self, exponents: Array) -> tuple[Array, Array]:
        """A loss has a floor of at least 0; an assumed exponent stays as near as bounds can hold it."""
        low = np.where(self.assumed, exponents * (1 - 1e-9), _BOUNDS[0])
        high = np.where(self.assumed, exponents * (1 + 1e-9), _BOUNDS[1])
        free = np.full(self.linear - 1, np.inf)
        return np.concatenate([[0.0], -free, low]), np.concatenate([[np.inf], free, high])


def _levels(runs: Sequence[Run]) -> dict[str, int]:
    """How many sizes of each factor there are; of data within one source."""
    sizes = [(run.source, sizes_of(run)) for run in runs]
    data = Counter(source for source, _ in {(source, s["data"]) for source, s in sizes})
    return {
        "data": max(data.values(), default=0),
        "model": len({s["model"] for _, s in sizes}),
        "length": len({s["length"] for _, s in sizes}),
    }


def _spread(residuals: Array) -> float:
    """A standard deviation that outliers do not move."""
    return 1.4826 * float(np.median(np.abs(residuals)))
