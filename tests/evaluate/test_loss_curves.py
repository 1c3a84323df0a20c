"""The over-fitting alarm within a run: what it hears, and what it does not take for a rise."""

import random

import pytest

from mimray.evaluate.loss_curves import curves, noise_of, running_median, sentence

pytestmark = pytest.mark.unit


def rows(val, train=None, each=4):
    """Rows of a run that validates at every `each`th of them."""
    train = train or [1.0 - 0.5 * n / len(val) for n in range(len(val))]
    made = []
    for number, (held_out, seen) in enumerate(zip(val, train, strict=True)):
        for step in range(each):
            row = {"images": 100 * (each * number + step + 1), "train/loss": seen}
            made.append(row | ({"val/loss": held_out} if step == each - 1 else {}))
    return made


def wobbling(shape, noise, seed=0):
    dice = random.Random(seed)
    return [value + dice.gauss(0.0, noise) for value in shape]


FALLS = [0.5 + 0.5 * 0.8**n for n in range(20)]
TURNS = [*FALLS[:10], *(FALLS[9] + 0.01 * n for n in range(1, 11))]


def test_a_rise_while_training_falls():
    found = curves(rows(wobbling(TURNS, 0.002)))
    assert found.verdict == "over-fits"
    assert found.best in (8, 9, 10) and found.rise == pytest.approx(0.09, abs=0.015)
    assert found.noise == pytest.approx(0.002, rel=0.8)
    told = sentence(found)
    assert told.startswith("OVER-FITTING: validation loss has risen from 0.5")
    assert f"since {found.val[found.best][0]:,} pictures" in told and "training loss fell" in told


def test_a_rise_that_training_shares_is_no_over_fitting():
    train = [0.5] * 10 + [0.6 + 0.02 * n for n in range(10)]
    found = curves(rows(TURNS, train))
    assert found.verdict == "rises"
    assert sentence(found).startswith("not over-fitting but worse")


@pytest.mark.parametrize(("shape", "alarms"), [(FALLS, 4), ([0.5] * 20, 8)])
def test_a_wobble_is_no_rise(shape, alarms):
    """Level losses rise above their lowest by chance: in one run of fifty."""
    found = [curves(rows(wobbling(shape, 0.02, seed))) for seed in range(200)]
    held = [one for one in found if one.verdict == "holds"]
    assert len(held) >= 200 - alarms
    assert sentence(held[0]).startswith("no over-fitting")


def test_one_bad_evaluation_is_no_rise_even_at_the_end():
    assert curves(rows([*FALLS[:-1], 0.56])).verdict == "holds"
    assert curves(rows([*FALLS[:10], 0.9, *FALLS[11:]])).verdict == "holds"


def test_a_rise_that_matters_to_nobody():
    line = [*(1.0 - 0.02 * n for n in range(20)), 0.62, 0.62]
    assert curves(rows([*line, *([line[-1] * 1.0008] * 3)])).verdict == "holds"
    assert curves(rows([*line, *([line[-1] * 1.0020] * 3)])).verdict == "over-fits"


def test_too_few_to_tell():
    found = curves(rows([0.5, 0.4, 0.6, 0.9]))
    assert found.verdict == "unknown" and "too few evaluations" in sentence(found)
    assert curves([]).verdict == "unknown" and curves([]).rise == 0.0


def test_what_was_not_finite_is_left_out():
    made = rows(FALLS)
    made[3]["val/loss"] = made[5]["train/loss"] = None
    found = curves(made)
    assert len(found.val) == 19 and len(found.train) == 79 and found.verdict == "holds"


def test_noise_is_that_of_the_wobble_and_not_of_the_curve():
    assert noise_of([3.0 - 0.1 * n for n in range(30)]) == pytest.approx(0.0, abs=1e-12)
    dice = random.Random(1)
    line = [3.0 - 0.1 * n + dice.gauss(0.0, 0.05) for n in range(3000)]
    assert noise_of(line) == pytest.approx(0.05, rel=0.05)
    assert noise_of([1.0, 2.0]) == 0.0


def test_the_running_median():
    assert running_median([1.0, 9.0, 2.0, 3.0]) == [2.0, 2.0, 3.0, 3.0]
    assert running_median([1.0, 3.0]) == [2.0, 2.0] and running_median([]) == []
