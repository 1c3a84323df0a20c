"""What `benchmarks.sweep` makes of its sweeps: no seed hides behind the others."""

import pytest

from benchmarks.sweep import GRID, check_same, compare

pytestmark = pytest.mark.unit


def result(scores, steps=20):
    """Of an arm, by learning rate."""
    rest = {name: values[0] for name, values in GRID.items()}
    cells = [{**rest, "optim.lr": lr, "objective": worth} for lr, worth in scores.items()]
    return {"cells": cells, "steps": steps, "steps_of_all": 100, "best": None}


def test_the_worst_seed_is_what_counts():
    grid = [{1: 0.0 + noise, 2: 1.0 + noise, 3: 3.0 + noise} for noise in (-1.0, 0.0, 1.0)]
    halved = [{3: grid[0][3]}, {3: grid[1][3]}, {2: grid[2][2]}]  # the last has lost the best
    figures, more = compare([result(g) for g in grid], [result(h) for h in halved])
    assert more["deviation"] == pytest.approx(1.0)
    assert more["behind"] == pytest.approx([0.0, 0.0, 2.0])
    assert more["behind on average"] == pytest.approx(2 / 3)  # would be within the target of 1
    behind = figures["behind the grid's best"]
    assert behind["ours"] == pytest.approx(2.0) and behind["ratio"] == pytest.approx(0.5)
    assert figures["steps"]["ours"] == pytest.approx(0.2)


def test_arms_that_trained_otherwise_are_an_error():
    whole = [result({1: 0.5, 2: 0.7}), result({1: 0.25, 2: 0.75})]
    check_same(whole, [result({2: 0.7}), result({1: 0.25, 2: 0.75})])
    with pytest.raises(SystemExit, match=r"seed 1: optim.lr=2 .* scored 0.76 with asha and 0.75"):
        check_same(whole, [result({2: 0.7}), result({1: 0.25, 2: 0.76})])
