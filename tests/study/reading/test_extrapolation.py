import numpy as np
import pytest

from mimray.study.reading.extrapolation import (
    Drops,
    Prediction,
    carried_error,
    covers,
    extrapolate,
    mean_error,
    one_share,
    predict,
    share_of_data,
)
from mimray.study.reading.intervals import CannotSay
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import LENGTHS, PUBLISHED, change, law_table

pytestmark = pytest.mark.unit


def test_the_published_runs_are_predicted():
    found = extrapolate(PUBLISHED)
    assert len(found) == 12 and {(p.model, p.data) for p in found} == {
        pair for pair in PUBLISHED.pairs() if pair not in overfitting_pairs(PUBLISHED)
    }
    assert mean_error(found) <= 0.0004
    assert carried_error(found) == pytest.approx(0.0043)
    assert sum(map(covers, found)) >= 10
    assert max(p.high - p.low for p in found) < 0.002  # and not by being wide


@pytest.mark.parametrize("other", [0.0, 0.43, 0.5])
def test_no_prediction_looks_at_the_value_it_predicts(other):
    """Also where the other value makes its pair one that over-fits: then it is not asked for."""
    before = {(p.model, p.data): p for p in extrapolate(PUBLISHED)}
    for model, data in before:
        changed = change(PUBLISHED, (model, data, 500_000), val_loss=other)
        after = {(p.model, p.data): p for p in extrapolate(changed)}
        assert ((model, data) in after) == ((model, data) not in overfitting_pairs(changed))
        for one in after.values():
            if one.model == model:
                told = before[one.model, one.data]
                assert (one.predicted, one.low, one.high) == (told.predicted, told.low, told.high)


def test_nothing_of_this_model_at_the_longest_length_is_needed():
    before = {(p.model, p.data): p.predicted for p in extrapolate(PUBLISHED)}
    for model in {run.model for run in PUBLISHED.runs}:
        kept = [r for r in PUBLISHED.runs if (r.model, r.iterations) != (model, 500_000)]
        own = [p for p in extrapolate(StudyTable("t", tuple(kept))) if p.model == model]
        assert all(p.actual is None for p in own)
        for one in own:  # pairs that rise only at the end are now asked for too
            if (model, one.data) in before:
                assert one.predicted == before[model, one.data]
        assert {d for m, d in before if m == model} <= {p.data for p in own}


def test_a_power_law_in_length_is_predicted_exactly():
    for one in extrapolate(law_table()):
        assert one.predicted == pytest.approx(one.actual, abs=1e-12)
        assert one.low <= one.predicted <= one.high < one.low + 1e-12


@pytest.mark.parametrize(
    ("low", "high", "actual", "held"),
    [
        (0.4, 0.6, 0.4, True), (0.4, 0.6, 0.6, True), (0.4, 0.6, 0.39, False), (0.4, 0.6, 0.61, False),
        (0.4, 0.6, None, False), (None, None, 0.5, False),
    ],
)  # fmt: skip
def test_an_interval_covers_what_lies_in_it(low, high, actual, held):
    assert covers(Prediction("a", "x", 0.5, low, high, actual, 0.7)) is held


def test_a_share_for_each_data_set_is_taken_where_the_others_have_one():
    others = [
        Drops(model, data, first, share * first)
        for model, first in (("a", 0.01), ("b", 0.02), ("c", 0.03))
        for data, share in (("x", 0.5), ("y", 0.9))
    ]
    assert predict(1.0, 0.98, "x", others)[0] == pytest.approx(0.98 - 0.5 * 0.02)
    assert predict(1.0, 0.98, "y", others)[0] == pytest.approx(0.98 - 0.9 * 0.02)
    assert predict(1.0, 0.98, "z", others)[0] == pytest.approx(0.98 - 0.7 * 0.02)


def test_one_share_is_taken_where_data_sets_do_not_differ():
    generator = np.random.default_rng(0)
    others = [
        Drops(model, data, 0.02, 0.014 + generator.normal(0, 0.001))
        for model in "abcdef"
        for data in "xyz"
    ]
    share, freedom, spread, weight = one_share(others, "x")
    assert freedom == 17 and spread == pytest.approx(0.001, rel=0.5)
    assert weight == pytest.approx(18 * 0.02**2)
    predicted, half = predict(1.0, 0.98, "x", others)
    assert predicted == pytest.approx(0.98 - share * 0.02)
    assert half == pytest.approx(1.7396 * spread * (1 + 1 / 18) ** 0.5, rel=1e-4)
    assert share_of_data(others, "x")[1] == 15


def test_the_way_is_chosen_by_models_that_are_left_out():
    """A share for each data set fits these best, and would predict neither model from the other."""
    shares = {"a": {"x": 0.9, "y": 0.5, "z": 0.5}, "b": {"x": 0.5, "y": 0.5, "z": 0.9}}
    others = [Drops(m, d, 0.02, s * 0.02) for m, own in shares.items() for d, s in own.items()]
    assert predict(1.0, 0.98, "y", others)[0] == pytest.approx(0.98 - 3.8 / 6 * 0.02)


def test_the_intervals_hold_what_they_say():
    generator = np.random.default_rng(1)
    held = []
    for _ in range(150):
        table = law_table(noise=lambda: generator.normal(0, 1e-4))
        held += [covers(one) for one in extrapolate(table)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.04)


def test_a_pair_that_is_not_trained_so_long_is_predicted_too():
    full = law_table()
    kept = [r for r in full.runs if (*r.pair, r.iterations) != ("d", "all", LENGTHS[-1])]
    found = extrapolate(StudyTable("t", tuple(kept)))
    (one,) = (p for p in found if p.actual is None)
    assert (one.model, one.data) == ("d", "all")
    actual = next(r for r in full.runs if (*r.pair, r.iterations) == ("d", "all", LENGTHS[-1]))
    assert one.predicted == pytest.approx(actual.val_loss, abs=1e-12)
    assert mean_error(found) == pytest.approx(0.0, abs=1e-12) and len(found) == 12


def test_one_other_pair_has_no_spread_to_show():
    assert predict(1.0, 0.98, "x", [Drops("a", "x", 0.02, 0.01)]) == (pytest.approx(0.97), None)


@pytest.mark.parametrize(
    "table",
    [law_table(lengths=LENGTHS[:2]), law_table(models={"a": 5e7}), law_table(models={}, images={})],
)
def test_a_table_that_does_not_tell_says_so(table):
    with pytest.raises(CannotSay):
        extrapolate(table)
