"""Ranges of random and Optuna's searches: what they hold, how evenly, and what is refused."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.errors import UserError
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.combinations import PLACES
from mimray.study.sweeps.copy import sweep_copy
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.range import Range

pytestmark = pytest.mark.unit

RATES = "grid: {mask.unit: [8, 16], optim.lr: {low: 1e-4, high: 1e-2, log: true}}\n"


@pytest.fixture
def lay_out(tmp_path):
    def load(text):
        file = tmp_path / "tiny.yaml"
        file.write_text(f"recipe: demo\n{text}")
        words = ["run.tracking=off", f"run.storage={tmp_path}", "model.encoder=vit_nano",
                 "model.image_size=32", "model.window=null"]  # fmt: skip
        return load_sweep(str(file), words)

    return load


# ----- what a range holds ---------------------------------------------------------------------------------


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e4), st.booleans(), st.floats(0.0, 1.0))
def test_both_ends_are_within_and_nothing_is_beyond(low, factor, log, share):
    values = Range(low=low, high=low * factor, log=log)
    assert values.at(0.0) == pytest.approx(low, rel=1e-3)
    assert values.at(1.0) == pytest.approx(low * factor, rel=1e-3)
    assert low <= values.at(share) <= low * factor


def test_logarithms_are_even():
    rates = Range(low="1e-4", high=1e-2, log=True)  # as YAML reads 1e-4
    assert rates.places(5) == [0.0001, 0.0003162, 0.001, 0.003162, 0.01]
    assert Range(low=0.0, high=1.0).places(5) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_whole_numbers_stay_whole_and_each_has_its_part():
    values = Range(low=1, high=4)
    found = [values.at(number / 1000) for number in range(1000)]
    assert all(type(value) is int for value in found)
    assert [found.count(value) for value in (1, 2, 3, 4)] == [250] * 4
    assert values.places(25) == [1, 2, 3, 4]
    halves = [Range(low=1, high=7, log=True).at(n / 999) for n in range(1000)]
    assert sum(value == 1 for value in halves) == 334  # of 1 to 8, thrice a factor of 2


# ----- what is drawn --------------------------------------------------------------------------------------


def test_random_draws_from_ranges_and_lists(lay_out):
    _, cells = lay_out(f"{RATES}search: random\nsamples: 40")
    rates = [cell.recipe.optim.lr for cell in cells]
    assert len({cell.name for cell in cells}) == 40 and len(set(rates)) > 30
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2
    assert 12 <= sum(rate < 1e-3 for rate in rates) <= 28  # 4 if it were even without the logarithm
    assert {cell.recipe.mask.unit for cell in cells} == {8, 16}


def test_more_samples_go_on_where_fewer_ended(lay_out):
    few, more = (lay_out(f"{RATES}search: random\nsamples: {n}")[1] for n in (3, 6))
    assert [cell.values for cell in few] == [cell.values for cell in more[:3]]
    other = lay_out(f"{RATES}search: random\nsamples: 3\nseed: 1")[1]
    assert [cell.values for cell in few] != [cell.values for cell in other]


def test_optuna_chooses_among_values_that_rise(lay_out):
    pytest.importorskip("optuna")
    rates = RATES.replace("[8, 16]", "[8]")
    sweep, cells = lay_out(f"{rates}search: optuna\nsamples: 4")
    assert len(cells) == PLACES
    rates = [math.log(cell.recipe.optim.lr) for cell in cells]
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([math.log(100) / (PLACES - 1)] * (PLACES - 1), abs=1e-3)
    choice = choice_of(sweep, cells)
    known = {cells[0].name: 0.5}
    asked = choice.ask(known, [cells[7].name])
    assert choice.name(asked.search.suggest("t")) == cells[7].name
    assert asked.search.space["optim.lr"].high == PLACES - 1


def test_pages_name_a_range_by_its_ends(lay_out):
    sweep, cells = lay_out(f"{RATES}search: random\nsamples: 3")
    params = sweep_copy(sweep, cells, SweepFolder(sweep, cells)).head.params
    assert params["grid.optim.lr"] == "0.0001..0.01 (log)" and params["grid.mask.unit"] == "8 16"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RATES, "search=grid runs through lists, and optim.lr is a range; list its values"),
        ("grid: {optim.lr: {low: 2, high: 1}}", "grid.0.optim.lr: low=2 is not below high=1"),
        ("grid: {optim.lr: {low: 0, high: 1, log: true}}", "low=0 has no logarithm"),
        ("grid: {optim.lr: {low: 1, hihg: 2}}", "high"),
        ("grid: {optim.lr: {low: .nan, high: 1.0}}", "finite number"),
        ("grid: {optim.lr: 0.1}", "0.1 is neither a list of values nor a range"),
        (
            "grid: {mask.unit: [8], schedule.repeat: {low: 1, high: 2}}",
            "schedule.repeat",
        ),
        (
            "grid: {optim.batch: {low: 8, high: 9}}\nsearch: random\nsamples: 3",
            "samples=3 and its ranges and lists have 2 cells; ask for fewer",
        ),
        (
            "grid: {optim.lr: {low: 0.1, high: 1.0}, optim.weight_decay: {low: 0.1, high: 1.0}, "
            "mask.ratio: [0.4, 0.6]}\nsearch: optuna\nsamples: 3",
            "chooses among 500 cells at most, and here are 800, a range counting for 20 values",
        ),
        (
            f"grid: {{mask.unit: [4, 8], schedule.length: [{', '.join(f'{n}it' for n in range(1, 321))}]}}"
            "\nsearch: optuna\nsamples: 3",
            "chooses among 500 cells at most, and here are 640; list fewer values, or take",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(lay_out, text, says):
    with pytest.raises(UserError) as told:
        lay_out(
            text if "\nsearch" in text or text is RATES else f"{text}\nsearch: random\nsamples: 2"
        )
    assert says in str(told.value) and "\n" not in str(told.value)
