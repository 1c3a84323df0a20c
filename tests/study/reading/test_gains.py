"""What the table's last steps say, where noise alone decides which cells over-fit."""

from dataclasses import replace

import numpy as np
import pytest

from mimray.study.reading.advice import advice
from mimray.study.reading.findings import analyse
from mimray.study.reading.gains import gains
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import IMAGES, LENGTHS, PUBLISHED, change, law_loss, law_table

pytestmark = pytest.mark.unit

SIZES = {"small": 5e7, "middle": 1e8, "large": 2e8}
SHARES = {"x 10%": 1e5, "x 20%": 2e5, "x 50%": 5e5, "x": 1e6}


def idle_length(seed, spread=0.002):
    """3 sizes x 4 subsets x 2 lengths, where the length does nothing."""
    generator = np.random.default_rng(seed)
    table = law_table(models=SIZES, images=SHARES, lengths=(1000, 4000))
    runs = []
    for run in table.runs:
        loss = law_loss(run.parameters, run.images, 4000) + generator.normal(0, spread)
        runs.append(replace(run, val_loss=loss, scores={"top1": 130 - 100 * loss}))
    return StudyTable("idle", tuple(runs))


def of(table):
    return {gain.factor: gain for gain in gains(table)}


def test_a_length_that_does_nothing_is_said_to_help_as_rarely_as_the_intervals_say():
    """90 % intervals lie below 0 in 3 of 60 such tables; of cells whose loss fell, in most of them."""
    found = [of(idle_length(seed)) for seed in range(60)]
    for factor in ("length", "length_most_data"):
        assert sum(gain[factor].loss.interval[1] < 0 for gain in found) <= 6, factor
        assert sum(gain[factor].scores["top1"].interval[0] > 0 for gain in found) <= 6, factor
    falling = [gain["length_not_overfitting"] for gain in found]
    assert all(gain.loss.mean < 0 for gain in falling)  # by construction, so
    assert all(gain.loss.interval is gain.scores["top1"].interval is None for gain in falling)
    assert all(gain["length"].steps == 12 > gain["length_not_overfitting"].steps for gain in found)


def test_more_data_for_cells_that_over_fit_has_no_interval_either():
    """They are those whose loss came out high: whatever is compared with them lies lower."""
    generator = np.random.default_rng(0)
    means = []
    for _ in range(40):
        same = idle_length(0).runs
        runs = tuple(replace(run, val_loss=0.4 + generator.normal(0, 0.002)) for run in same)
        one = of(StudyTable("t", runs)).get("data_overfitting")
        if one is not None:
            means.append(one.loss.mean)
            assert one.loss.interval is None
    assert np.mean(means) < -0.0005


def test_the_law_does_not_have_an_idle_length_pay():
    """Its own interval lies below 0, for it is fitted to cells whose loss fell."""
    found = analyse(idle_length(3))
    value, (_, high) = found.law.doubling("length")
    assert high < 0
    said = advice(found)
    assert any(f"twice the length {value:+.4f}, flattered" in sentence for sentence in said)
    assert any("whether twice the length pays, for the loss is not sure to fall" in s for s in said)
    (verdict,) = (s for s in said if "lowers the loss most next" in s)
    assert "the length" not in verdict.split(". Twice the length or")[0].split("more than")[0]


def test_a_step_of_four_times_is_said_per_doubling():
    table = law_table(models=SIZES, images=IMAGES, lengths=(100_000, 400_000))
    twice = (law_loss(1e8, 1e6, 4e5) - law_loss(1e8, 1e6, 1e5)) / 2
    (said,) = (s for s in advice(analyse(table)) if s.startswith("So far, per doubling of the len"))
    assert f"(100k to 400k, 9 comparisons): validation loss {twice:+.4f} " in said


def test_what_is_said_once_is_not_said_again():
    """Where no cell over-fits the length has one sentence of all cells, with one data set only one."""
    assert "length_not_overfitting" not in of(law_table())
    assert "length_most_data" not in of(law_table(images={"all": 1e6}))


def test_the_largest_subset_is_of_the_source_that_most_runs_are_of():
    assert of(PUBLISHED)["length_most_data"].data == ("ImageNet-1K",)
    assert of(law_table())["length_most_data"].data == ("double",)


def test_a_rise_has_its_size():
    table = change(law_table(), ("b", "all", LENGTHS[1]), val_loss=0.5)
    table = change(table, ("b", "all", LENGTHS[2]), val_loss=0.5001)
    (one,) = overfitting_pairs(table).values()
    first = (
        0.5
        - next(
            r for r in table.runs if (*r.pair, r.iterations) == ("b", "all", LENGTHS[0])
        ).val_loss
    )
    assert one.rises == ((LENGTHS[0], LENGTHS[1]), (LENGTHS[1], LENGTHS[2]))
    assert one.raised_by == pytest.approx((first, 0.0001))
