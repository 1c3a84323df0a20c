"""What one factor is worth may depend on another: where a table shows it, the law has their product."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mimray.study.reading.findings import analyse
from mimray.study.reading.report import as_json
from mimray.study.reading.scaling_law import fit_law
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import IMAGES, PUBLISHED, law_table

pytestmark = pytest.mark.unit

K = -0.004


def with_product(table, k=K):
    """A longer training is worth more to a larger model."""
    return StudyTable(
        table.name,
        tuple(
            replace(
                run,
                val_loss=run.val_loss
                + k * math.log(run.parameters / 2e8) * math.log(run.iterations / 2e5),
            )
            for run in table.runs
        ),
    )


def noisy(seed, spread=2e-4, **cells):
    generator = np.random.default_rng(seed)
    return law_table(noise=lambda: generator.normal(0, spread), **cells)


@pytest.mark.parametrize("k", [K, -K / 4])
def test_a_product_is_found_and_recovered(k):
    fitted = fit_law(with_product(noisy(0), k), draws=100)
    assert list(fitted.law.products) == [("model", "length")]
    low, high = fitted.interval(lambda law: law.products["model", "length"])
    assert low <= k <= high and fitted.law.products["model", "length"] == pytest.approx(k, rel=0.2)
    assert fitted.residual < 3e-4


def test_the_next_doubling_goes_by_it():
    """Without it the law is as sure, and wrong: its residuals are ten times the noise."""
    table = with_product(noisy(1))
    fitted = fit_law(table, draws=100)
    at = fitted.reference
    twice = replace(at, parameters=2 * at.parameters)
    plain = law_table(models={"d": at.parameters, "e": twice.parameters})
    losses = {run.model: run.val_loss for run in with_product(plain).runs
              if (run.data, run.iterations) == (at.data, at.iterations)}  # fmt: skip
    truth = losses["e"] - losses["d"]
    value, (low, high) = fitted.doubling("model")
    assert low <= truth <= high < 0 and value == pytest.approx(truth, rel=0.15)
    assert fitted.law.predict(twice) - fitted.law.predict(at) == pytest.approx(value)


def test_a_sum_is_given_none_but_by_chance():
    given = [bool(fit_law(noisy(seed), draws=0).law.products) for seed in range(40)]
    assert sum(given) <= 6  # 5 % are expected: more than 6 in one of 200 such tests


def test_too_few_pairs_show_none():
    two = {name: IMAGES[name] for name in ("half", "all")}
    table = with_product(noisy(0, models={"a": 5e7, "b": 1e8, "c": 2e8}, images=two))
    assert not fit_law(table, draws=0).law.products


def test_the_published_runs_have_one():
    """On Data Scaling in MIM, section 4: larger models benefit more from a longer training."""
    found = analyse(PUBLISHED)
    (both,) = found.law.law.products
    assert both == ("model", "length") and found.law.residual < 0.0005
    said = sentences(found)
    assert any(
        s.startswith("The larger the model, the more twice the length is worth:") for s in said
    )
    told = as_json(found, said, [])["law"]["products"]["model x length"]
    assert told["coefficient"] == pytest.approx(-0.00099, abs=1e-5)
    assert told["interval"][0] < told["coefficient"] < told["interval"][1] < 0
