"""Which cells a budget pays for, and what they are predicted to take."""

import itertools
import math

import numpy as np
import pytest

from mimray.study.scaling.design import choose, slopes

pytestmark = pytest.mark.unit

MODELS, DATA, LENGTHS = (1e6, 4e6, 16e6), (400.0, 1600.0, 6400.0), (1000, 2000, 4000)
CELLS = list(itertools.product(MODELS, DATA, LENGTHS))
SIZES = [{"data": d, "model": n, "length": float(t)} for n, d, t in CELLS]
PAIRS = [(str(n), str(d)) for n, d, _ in CELLS]
HOURS = [n * t / 1e12 for n, _, t in CELLS]
STEPS = [t for _, _, t in CELLS]


def test_slopes_are_those_of_the_law():
    rows = slopes(SIZES)
    assert rows.shape == (27, 1 + 2 * 3)
    middle = CELLS.index((4e6, 1600.0, 2000))
    assert rows[middle, 2::2] == pytest.approx(0.0)  # where sizes are their geometric mean
    assert rows[middle, 1::2] == pytest.approx(1.0)
    assert slopes(SIZES[:3]).shape == (3, 3)  # of one size no part, so E and the length alone
    assert slopes([SIZES[0], SIZES[1]]).shape == (2, 2)  # of two no exponent


def test_the_budget_is_kept_and_pairs_come_with_two_lengths():
    rows = slopes(SIZES)
    for budget in (0.004, 0.02, 0.1, 0.3):
        chosen = choose(rows, HOURS, PAIRS, STEPS, budget)
        assert chosen and math.fsum(HOURS[n] for n in chosen) <= budget
        assert len(set(chosen)) == len(chosen)
        lengths = {pair: [STEPS[n] for n in chosen if PAIRS[n] == pair] for pair in set(PAIRS)}
        assert all(len(own) != 1 for own in lengths.values())
        assert all(not own or set(own) >= {1000, 2000} for own in lengths.values())


def test_all_of_it_where_there_is_enough():
    assert len(choose(slopes(SIZES), HOURS, PAIRS, STEPS, sum(HOURS) + 1e-9)) == 27
    assert choose(slopes(SIZES), HOURS, PAIRS, STEPS, min(HOURS)) == []


def test_finished_cells_cost_what_they_took_and_are_told_first():
    over = [26]
    chosen = choose(slopes(SIZES), HOURS, PAIRS, STEPS, HOURS[26] + 0.02, over)
    assert chosen[0] == 26 and math.fsum(HOURS[n] for n in chosen) <= HOURS[26] + 0.02
    assert len(chosen) > 1


@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
def test_it_predicts_as_well_as_as_many_hours_of_the_cheapest_or_better(budget):
    rows = slopes(SIZES)

    def spread(cells):
        information = np.eye(rows.shape[1]) + rows[cells].T @ rows[cells] / 0.1**2
        return float(np.einsum("np,pq,nq->", rows, np.linalg.inv(information), rows))

    cheapest, left = [], budget
    for number in np.argsort(HOURS, kind="stable").tolist():
        if HOURS[number] <= left:
            cheapest.append(number)
            left -= HOURS[number]
    ratio = spread(choose(rows, HOURS, PAIRS, STEPS, budget)) / spread(cheapest)
    assert ratio < 1.05
    if budget == 0.02:
        assert ratio < 0.05  # of the cheapest no third model is among them


def test_what_tells_nothing_new_waits():
    """Beside a cell that is there already, its twin tells less than another model at the same price."""
    sizes = [{"model": n} for n in (1.0, 1.0, 8.0)]
    chosen = choose(slopes(sizes), [1.0] * 3, [("a", "x"), ("b", "x"), ("c", "x")], [1] * 3, 2.0)
    assert set(chosen) in ({0, 2}, {1, 2})
