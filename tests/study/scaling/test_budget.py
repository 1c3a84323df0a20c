"""A study's cells under one budget after another, and how their hours are told."""

import itertools
import math
from types import SimpleNamespace

import pytest

from mimray.errors import UserError
from mimray.study.scaling.budget import choose_cells
from mimray.study.scaling.hours import Hours, Rate
from mimray.verbs.study.shown import hours_lines

pytestmark = pytest.mark.unit

PARAMS, IMAGES = {"s": 1e6, "m": 4e6, "l": 16e6}, {"10%": 400, "40%": 1600, "all": 6400}
LENGTHS = (1000, 2000, 4000)
RATE = Rate(1.0, "measured")


class Study:
    """Its cells, of which none has begun, and the notes that go from one command to the next."""

    def __init__(self, seeds=(0,)):
        self.begun = set()
        product = itertools.product(PARAMS, IMAGES, LENGTHS, seeds)
        self.cells = [self._cell(*which) for which in product]
        self.hours = {
            c.name: Hours({"pretrain": PARAMS[c.values["model"]] * c.values["iterations"] / 1e12},
                          {"pretrain": 1.0}, RATE)
            for c in self.cells
        }  # fmt: skip
        self.folder = SimpleNamespace(
            budget=None, chosen=None, images=IMAGES, params=PARAMS, unit="GPU-hours"
        )

    def _cell(self, model, data, iterations, seed):
        values = {"model": model, "data": data, "iterations": iterations, "seed": seed}
        name = f"{model} {data} {iterations} {seed}"
        return SimpleNamespace(
            name=name, values=values, record=lambda: {} if name in self.begun else None
        )

    def choose(self, budget):
        choose_cells(SimpleNamespace(cells=self.cells), self.folder, self.hours, budget)
        return None if self.folder.chosen is None else set(self.folder.chosen)

    def cost(self, names):
        return math.fsum(self.hours[name].cost for name in names)


def test_a_larger_budget_adds_to_the_cells_of_a_smaller_one():
    study, budgets = Study(), (0.01, 0.02, 0.05, 0.1, 0.2)
    one_by_one = [study.choose(budget) for budget in budgets]
    for small, large in itertools.pairwise(one_by_one):
        assert small < large
    for budget, names in zip(budgets, one_by_one, strict=True):
        assert study.cost(names) <= budget
    afresh = [Study().choose(budget) for budget in budgets]
    assert not all(small <= large for small, large in itertools.pairwise(afresh))


def test_a_smaller_budget_leaves_out_what_has_not_begun():
    study = Study()
    large, small = study.choose(0.2), study.choose(0.02)
    assert len(small) < len(large) and study.cost(small) <= 0.02
    assert small == Study().choose(0.02)


def test_cells_that_have_begun_stay_whatever_the_budget():
    study, dear = Study(), "l all 4000 0"
    assert dear not in study.choose(0.02)
    assert study.choose(None) is None
    study.begun = {dear}
    assert study.choose(0.02) == {dear}  # it alone takes more
    assert dear in study.choose(0.2) and study.cost(study.folder.chosen) <= 0.2


def test_a_damaged_record_counts_as_begun():
    def damaged():
        raise UserError("run.json cannot be read")

    study = Study()
    study.cells[-1].record = damaged
    assert study.cells[-1].name in study.choose(0.02)


def test_the_same_budget_keeps_its_cells_when_others_were_cheaper():
    study = Study()
    before = study.choose(0.02)
    study.hours = dict.fromkeys(study.hours, Hours({"pretrain": 0.001}, {"pretrain": 1.0}, RATE))
    assert study.choose(0.02) == before


def test_of_several_seeds_all_or_none():
    study = Study(seeds=(0, 1))
    study.begun = {"l all 4000 1"}
    names = study.choose(0.3)
    assert {"l all 4000 0", "l all 4000 1"} < names and len(names) % 2 == 0


# ----- for people -----------------------------------------------------------------------------------------


def test_of_many_cells_the_dearest_are_named_and_the_others_counted():
    study = Study()
    lines = hours_lines(study.cells, study.hours, "GPU-hours")
    assert len(lines) == 6
    assert lines[0] == "  0.064 GPU-hours: l, 10%, 4000 iterations, seed 0"
    others = study.cost(study.hours) - 3 * 0.064 - 2 * 0.032
    assert lines[-1] == f"  {others:.3g} GPU-hours: the 22 others together"


def test_of_few_cells_each_is_named():
    study = Study()
    lines = hours_lines(study.cells[:8], study.hours, "GPU-hours")
    assert len(lines) == 8 and "together" not in lines[-1]
    assert lines[-1] == "  0.001 GPU-hours: s, all, 1000 iterations, seed 0"
