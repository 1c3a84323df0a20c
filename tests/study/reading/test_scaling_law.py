from dataclasses import replace

import numpy as np
import pytest

from mimray.study.reading.gains import gains
from mimray.study.reading.intervals import CannotSay
from mimray.study.reading.scaling_law import ASSUMED, fit_law
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import (
    IMAGES,
    LENGTHS,
    MODELS,
    PUBLISHED,
    change,
    law_loss,
    law_table,
)

pytestmark = pytest.mark.unit


def noisy(seed, spread=2e-4):
    generator = np.random.default_rng(seed)
    return law_table(noise=lambda: generator.normal(0, spread))


def test_a_law_without_noise_is_recovered():
    fitted = fit_law(law_table(), draws=0)
    law = fitted.law
    exponents = {factor: term.exponent for factor, term in law.terms.items()}
    assert exponents == pytest.approx({"data": 0.40, "model": 0.25, "length": 0.50}, abs=0.01)
    assert law.floor == pytest.approx(0.40, abs=1e-3)
    at_unit = {"data": 1e6, "model": 2e8, "length": 2e5}
    coefficients = {factor: law.terms[factor].at(size) for factor, size in at_unit.items()}
    assert coefficients == pytest.approx({"data": 0.01, "model": 0.03, "length": 0.02}, rel=0.03)
    assert fitted.residual < 1e-6 and not any(term.assumed for term in law.terms.values())


def test_what_a_doubling_changes_is_recovered_within_its_interval():
    fitted = fit_law(noisy(0), draws=100)
    at = fitted.reference
    assert at.pair == ("d", "double") and at.iterations == LENGTHS[-1]
    here = law_loss(at.parameters, at.images, at.iterations)
    truth = {
        "data": law_loss(at.parameters, 2 * at.images, at.iterations) - here,
        "model": law_loss(2 * at.parameters, at.images, at.iterations) - here,
        "length": law_loss(at.parameters, at.images, 2 * at.iterations) - here,
    }
    for factor, change_ in truth.items():
        value, (low, high) = fitted.doubling(factor)
        assert low <= value <= high < 0 and value == pytest.approx(change_, rel=0.25)
    assert fitted.pays_more("model", "data") is True
    assert fitted.pays_more("data", "model") is False


def test_one_wild_run_does_not_move_the_law():
    table = noisy(1)
    wild = change(table, ("b", "all", LENGTHS[0]), val_loss=0.6)  # the shortest: nothing rises
    law, moved = fit_law(table, draws=0).law, fit_law(wild, draws=0).law
    for run in table.runs:
        assert moved.predict(run) == pytest.approx(law.predict(run), abs=1e-3)


def test_another_source_has_a_shift_of_its_own():
    table = law_table()
    other = tuple(
        replace(run, data="other", source="o", images=1e7, val_loss=run.val_loss + 0.005)
        for run in table.runs
        if run.data == "all"
    )
    fitted = fit_law(StudyTable("t", table.runs + other), draws=0)
    assert fitted.law.shifts["s"] == 0.0
    data = fitted.law.terms["data"]
    shift = 0.005 + 0.01 - data.at(1e7)  # what its size takes away, the shift has to add
    assert fitted.law.shifts["o"] == pytest.approx(shift, abs=2e-4)
    assert fitted.residual < 1e-4


def test_two_sizes_show_no_curve_and_one_none_at_all():
    two = fit_law(law_table(lengths=LENGTHS[:2]), draws=60)
    assert two.law.terms["length"].assumed and not two.law.terms["model"].assumed
    low, high = two.interval(lambda law: law.terms["length"].exponent)
    assert ASSUMED[0] <= low < 0.2 and 0.6 < high <= ASSUMED[1]
    one = fit_law(law_table(images={"all": 1e6}), draws=0)
    assert list(one.law.terms) == ["model", "length"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (law_table(models={"a": 5e7}, lengths=LENGTHS[:1]), "takes 5 runs"),
        (law_table(models={"a": 5e7}, images={"all": 1e6}), "takes 5 runs"),
        (law_table(models={"a": 5e7, "b": 1e8}, images={"x": 1e6}, lengths=LENGTHS[:2]), "three"),
        (law_table(models={}), "takes some"),
        (law_table(models={"a": None}), "add a column params"),
        (law_table(images={"x": None}), "add a column images"),
    ],
)
def test_too_little_for_a_law_is_said(table, said):
    with pytest.raises(CannotSay, match=said):
        fit_law(table)


def test_shares_of_two_sources_are_no_sizes():
    shares = law_table(images={"10%": 0.1, "50%": 0.5, "100%": 1.0})
    assert fit_law(shares, draws=0).law.terms["data"].unit < 1
    mixed = tuple(replace(run, source=run.data) for run in shares.runs)
    with pytest.raises(CannotSay, match="add a column images"):
        fit_law(StudyTable("t", mixed))


def test_the_published_law():
    fitted = fit_law(PUBLISHED, draws=100)
    assert fitted.runs == 36 and fitted.residual < 0.001
    assert fitted.law.terms[
        "data"
    ].assumed  # 50 % and 100 % of ImageNet-1K: two sizes of one source
    for factor in ("length", "model"):
        assert fitted.doubling(factor)[1][1] < 0
        assert fitted.pays_more(factor, "data") is True


def test_the_tables_own_steps_are_the_law_s():
    found = {gain.factor: gain for gain in gains(law_table())}
    length = found["length"]
    assert (length.before, length.after, length.steps) == (("200k",), ("400k",), 12)
    assert length.loss.groups == len(MODELS)
    assert length.loss.mean == pytest.approx(0.02 * (2**-0.5 - 1))
    assert length.scores["top1"].mean == pytest.approx(-100 * length.loss.mean)
    assert (found["data"].before, found["data"].after) == (("all",), ("double",))
    assert found["data"].loss.mean == pytest.approx(0.01 * (2**-0.4 - 1))
    step = law_loss(6e8, 1e6, 4e5) - law_loss(2e8, 1e6, 4e5)
    assert found["model"].loss.mean == pytest.approx(step / np.log2(3))
    assert found["model"].steps == len(IMAGES) and "source" not in found


def test_steps_of_the_published_table():
    found = {gain.factor: gain for gain in gains(PUBLISHED)}
    assert found["length"].steps == 21 and found["length_not_overfitting"].steps == 12
    assert found["length_not_overfitting"].loss.mean == pytest.approx(-0.0044, abs=1e-4)
    most = found["length_most_data"]
    assert most.loss.mean == pytest.approx((-33 - 38 - 45 - 48 - 47) / 5 * 1e-4)
    assert most.loss.interval[1] < 0
    data = found["data"]
    assert data.steps == 3 and data.loss.mean == pytest.approx((-5 - 10 - 23) / 3 * 1e-4)
    assert data.loss.interval[1] > 0  # three models do not settle it
    assert found["data_overfitting"].steps == 9 and found["data_overfitting"].loss.mean < -0.02
    source = found["source"]
    assert (source.before, source.after) == (("ImageNet-1K",), ("ImageNet-22K",))
    assert source.loss.mean == pytest.approx((26 + 29 + 28 + 21) / 4 * 1e-4)
