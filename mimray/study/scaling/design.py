"""Which cells tell most about the scaling law for the hours that they cost.

The law's prediction is linearised about nominal numbers: each cell is a row of slopes. A cell is worth what
it takes away from the variance of the law's predictions, summed over all cells of the study; the best for
its hours goes first, then the best of the others given that one, while the budget lasts.
(Variance of predictions, not of parameters as in D-optimal design: what is asked is what more data, a
larger model or longer training would give, and E and its exponents trade off against each other without
changing that.) A pair of a model and its data comes in with its two shortest lengths together, for
over-fitting shows only between lengths.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENT = 0.3
"""Nominal, of all three factors."""
_NOISE = 0.1  # of a loss, beside coefficients of 1
_SPREAD = {"floor": 3.0, "coefficient": 1.0, "exponent": 0.3}  # what is believed before
_POWERS = (1.0, 0.5, 0.0)  # of the hours that a cell's worth is divided by


def slopes(sizes: Sequence[Mapping[str, float]]) -> Array:
    """A row a cell: how the law's prediction moves with E, and each factor's coefficient and exponent, in
    standard deviations of what is believed of them before. `sizes`: pictures, parameters and iterations of
    each cell, by name.

    A factor of one size is no part of the law, one of two has no exponent to be seen (as `fit_law`).
    """
    columns = [np.full(len(sizes), _SPREAD["floor"])]
    for factor in sizes[0]:
        logs = np.log([size[factor] for size in sizes])
        logs = logs - logs.mean()
        levels = len(set(np.round(logs, 9).tolist()))
        term = np.exp(-EXPONENT * logs)
        if levels > 1:
            columns.append(_SPREAD["coefficient"] * term)
        if levels > 2:
            columns.append(_SPREAD["exponent"] * -logs * term)
    return np.stack(columns, axis=1)


def choose(
    rows: Array,
    hours: Sequence[float],
    pairs: Sequence[tuple[str, str]],
    lengths: Sequence[int],
    budget: float,
    over: Collection[int] = (),
) -> list[int]:
    """Cells by number, in the order in which they were chosen; `over`: those that are in it anyway, whose
    `hours` count, whatever the budget, and which are told first.

    Greed for what an hour brings takes cheap cells and may have no room left for a dear one that brings
    more, so greed for a cell's whole worth is tried too, and what lies between; the best of the three
    counts (as Leskovec et al., Cost-effective outbreak detection, 2007, with two).
    """
    found = [_greedy(rows, hours, pairs, lengths, budget, over, power) for power in _POWERS]
    return min(found, key=lambda chosen: _left(_known(rows, chosen), rows))


def _greedy(
    rows: Array,
    hours: Sequence[float],
    pairs: Sequence[tuple[str, str]],
    lengths: Sequence[int],
    budget: float,
    over: Collection[int],
    power: float,
) -> list[int]:
    chosen = list(over)
    left = budget - math.fsum(hours[number] for number in chosen)
    variance = _known(rows, chosen)
    while True:
        able = [
            (bundle, cost)
            for bundle in _bundles(pairs, lengths, chosen)
            if (cost := math.fsum(hours[number] for number in bundle)) <= left
        ]
        if not able:
            return chosen
        worth = {b: _left(variance, rows) - _left(_known(rows, b, variance), rows) for b, _ in able}
        best, cost = max(able, key=lambda one: (worth[one[0]] / one[1] ** power, -one[1]))
        variance = _known(rows, best, variance)
        chosen += best
        left -= cost


def _bundles(
    pairs: Sequence[tuple[str, str]], lengths: Sequence[int], chosen: Collection[int]
) -> list[tuple[int, ...]]:
    """What may come next: another length of a pair, of a pair without any its two shortest ones."""
    members: dict[tuple[str, str], list[int]] = {}
    for number, pair in enumerate(pairs):
        members.setdefault(pair, []).append(number)
    found: list[tuple[int, ...]] = []
    for numbers in members.values():
        rest = sorted((n for n in numbers if n not in chosen), key=lambda n: lengths[n])
        if len(rest) == len(numbers):
            found.append(tuple(rest[:2]))
        else:
            found += [(number,) for number in rest]
    return [bundle for bundle in found if bundle]


def _known(rows: Array, cells: Sequence[int], before: Array | None = None) -> Array:
    """The covariance of what is believed once these cells have told their losses."""
    variance = np.eye(rows.shape[1]) if before is None else before
    for number in cells:
        seen = variance @ rows[number]
        variance = variance - np.outer(seen, seen) / (_NOISE**2 + rows[number] @ seen)
    return variance


def _left(variance: Array, rows: Array) -> float:
    """The variance of all predictions together."""
    return float(np.einsum("np,pq,nq->", rows, variance, rows))
