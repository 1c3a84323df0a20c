import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mimray.study.reading.correlation import (
    correlations,
    line,
    off_others_line,
    pearson,
    spearman,
    train_loss,
)
from mimray.study.reading.intervals import (
    LEAST_GROUPS,
    bootstrap,
    mean_interval,
    percentile_interval,
)
from mimray.study.reading.overfitting import overfitting_pairs, split_runs
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import PUBLISHED, change, law_table

pytestmark = pytest.mark.unit

VALUES = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=30)
S, B, L, H, G = (f"SwinV2-{name}" for name in ("Small", "Base", "Large", "Huge", "giant"))


def test_the_cells_that_over_fit_are_the_papers():
    bad = overfitting_pairs(PUBLISHED)
    both, last = ((125000, 250000), (250000, 500000)), ((250000, 500000),)
    rising = {(s, "ImageNet-1K 10%"): both for s in (S, B, L)}
    rising |= {(L, "ImageNet-1K 20%"): both, (H, "ImageNet-1K 20%"): both}
    rising |= {(S, "ImageNet-1K 20%"): last, (B, "ImageNet-1K 20%"): last}
    rising |= {(H, "ImageNet-1K 50%"): last, (G, "ImageNet-1K 50%"): last}
    assert {pair: one.rises for pair, one in bad.items()} == rising


def test_top1_falls_where_the_paper_has_it():
    falls = {pair: one.falls for pair, one in overfitting_pairs(PUBLISHED).items() if one.falls}
    both, last = ((125000, 250000), (250000, 500000)), ((250000, 500000),)
    assert falls == {
        (B, "ImageNet-1K 10%"): last,
        (L, "ImageNet-1K 10%"): both,
        (L, "ImageNet-1K 20%"): last,
        (H, "ImageNet-1K 20%"): both,
        (G, "ImageNet-1K 50%"): last,
    }


def test_a_level_loss_does_not_over_fit_and_one_rise_takes_the_whole_pair():
    table = law_table()
    level = change(table, ("a", "all", 400_000), val_loss=table.pairs()["a", "all"][1].val_loss)
    assert overfitting_pairs(level) == {}
    risen = change(table, ("a", "all", 200_000), val_loss=0.9)
    kinds = split_runs(risen)
    assert [run.pair for run in kinds["overfitting"]] == [("a", "all")] * 3
    assert len(kinds["not_overfitting"]) == len(kinds["all"]) - 3


def test_the_published_coefficients():
    kinds = correlations(PUBLISHED)["top1"]
    found = {kind: (one.runs, one.pearson, one.spearman) for kind, one in kinds.items()}
    wanted = {
        "all": (63, -0.786, -0.897),
        "not_overfitting": (36, -0.956, -0.9735),
        "overfitting": (27, -0.697, -0.723),
    }
    for kind, (runs, by_value, by_rank) in wanted.items():
        assert found[kind] == (
            runs,
            pytest.approx(by_value, abs=5e-4),
            pytest.approx(by_rank, abs=5e-4),
        )
    for one in kinds.values():
        low, high = one.pearson_interval
        assert -1 <= low < one.pearson < high < 0


@given(VALUES)
def test_coefficients_are_scipys(points):
    x, y = np.array(points, dtype=float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert pearson(points) is None and spearman(points) is None
        return
    assert pearson(points) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert spearman(points) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@given(VALUES, st.floats(0.1, 10), st.floats(-5, 5))
def test_a_positive_scale_and_a_shift_change_no_coefficient(points, scale, shift):
    moved = [(scale * x + shift, y) for x, y in points]
    for coefficient in (pearson, spearman):
        before, after = coefficient(points), coefficient(moved)
        assert after == (None if before is None else pytest.approx(before, abs=1e-6))


def test_two_points_and_seven_groups_bound_what_is_said():
    assert pearson([(0, 1), (1, 2)]) is None
    assert bootstrap([[(x, x)] for x in range(6)], pearson) is None
    assert bootstrap([[(x, x)] for x in range(7)], pearson) == pytest.approx((1.0, 1.0))


def test_from_the_least_pairs_on_an_interval_is_not_surer_than_it_may_be():
    """Of values that go together with 0.9; with four pairs it would miss the truth in 41 of 100 tables."""
    generator, truth = np.random.default_rng(0), 6 / math.pi * math.asin(0.45)
    missed = 0
    for _ in range(60):
        x, off = generator.normal(size=(2, LEAST_GROUPS))
        pairs = [[point] for point in zip(x, 0.9 * x + 0.19**0.5 * off, strict=True)]
        low, high = bootstrap(pairs, spearman, draws=100)
        missed += not low <= truth <= high
    assert missed <= 12


def test_a_line_is_scipys():
    points = [(x / 7, 3 - 2 * x / 7 + 0.1 * (-1) ** x) for x in range(9)]
    x, y = np.array(points).T
    fitted = stats.linregress(x, y)
    found = line(points)
    assert found.slope == pytest.approx(fitted.slope)
    assert found.off((2.0, 5.0)) == pytest.approx(5.0 - fitted.intercept - 2.0 * fitted.slope)
    assert line(points[:2]) is None


def off_line(*heights, runs=5):
    """Models whose runs lie so far above one line."""
    return [[(x / 4, 3 - x / 2 + height) for x in range(runs)] for height in heights]


def test_a_model_is_held_against_the_line_of_the_others():
    """Off by 0, 0 and 0.3: against the others' line by 0.15, 0.15 and 0.3; of 15 distances the 15th."""
    assert off_others_line(off_line(0.0, 0.0, 0.3)) == pytest.approx(0.3)
    seven = off_line(*[0.0] * 6, 0.3, runs=9)  # the 58th of 63: the odd model's nine are the last
    assert off_others_line(seven) == pytest.approx(0.3)
    assert off_others_line(off_line(*[0.0] * 12, 0.3)) == pytest.approx(0.3 / 12)


def test_too_few_models_or_runs_say_nothing_of_another_model():
    assert off_others_line(off_line(0.0, 0.3, runs=20)) is None
    assert off_others_line([own[:2] for own in off_line(0.0, 0.1, 0.3)]) is None
    assert off_others_line([own[:3] for own in off_line(0.0, 0.1, 0.3)]) is not None


def test_the_band_holds_runs_of_a_model_that_is_not_in_the_table():
    """Each model is set apart from the line by as much again as its runs are from one another."""
    generator = np.random.default_rng(0)
    held = []
    for _ in range(200):
        set_apart = generator.normal(0, 0.3, size=7)
        models = [
            [(x / 9, 1 - x + apart + generator.normal(0, 0.3)) for x in range(6)]
            for apart in set_apart
        ]
        known, other = models[:6], models[6]
        fitted = line([point for own in known for point in own])
        held += [abs(fitted.off(point)) <= off_others_line(known) for point in other]
    assert 0.85 < np.mean(held) < 0.95


def test_of_the_published_models_small_is_the_one_off_the_others_line():
    fine = split_runs(PUBLISHED)["not_overfitting"]
    by_model = {}
    for run in fine:
        by_model.setdefault(run.model, []).append((run.val_loss, run.scores["top1"]))
    small = by_model.pop("SwinV2-Small")
    others = line([point for own in by_model.values() for point in own])
    within = off_others_line([small, *by_model.values()])
    assert all(others.off(point) < 0 for point in small)
    distances = [abs(others.off(point)) for point in small]
    assert min(distances) < within < max(distances)


def test_intervals_in_closed_form():
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx(stats.t.interval(0.9, 2, 2.0, 1 / math.sqrt(3)))
    assert mean_interval([1.0]) is None and percentile_interval([]) is None
    assert percentile_interval(range(101)) == pytest.approx((5.0, 95.0))


def test_the_training_loss_is_compared_where_the_table_has_one():
    runs = tuple(replace(run, train_loss=-run.val_loss) for run in PUBLISHED.runs[:30])
    table = StudyTable("t", (*runs, *PUBLISHED.runs[30:]))
    found = correlations(table, train_loss)["top1"]["all"]
    of_val = correlations(StudyTable("t", PUBLISHED.runs[:30]))["top1"]["all"]
    assert found.runs == 30 and found.pearson == pytest.approx(-of_val.pearson)
