"""What a study will take, from what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mimray.evaluate.workers import Share
from mimray.study.scaling.account import Need
from mimray.study.scaling.hours import Rate, known_rates, measured_rates, predict_hours
from mimray.study.scaling.measuring import MeasureStep
from mimray.study.scaling.runners import Work
from tests.study.scaling.tiny import DRAWINGS, PLACE

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_hours_come_from_what_was_measured(study, folder):
    rates = known_rates(study.laid.cells)
    assert rates["nano"].source == "measured"
    assert rates["nano"].images_per_s == study.cell.record()["final"]["images_per_s"]
    folder.compared, folder.val = 88, 120
    rates = {"nano": Rate(10.0, "measured")}
    need = lambda cell, step: Need(Share(2))  # noqa: E731
    hours = predict_hours(study.laid.cells, study.steps, folder, need, rates)[study.other.name]
    assert 3600 * hours.steps["pretrain"] == pytest.approx(2.0 + 4 * 16 / 10)
    assert hours.cost == pytest.approx(2 * hours.clock)
    folder.seconds = {study.cell.name: {"pretrain": {"began": 0.0, "seconds": 7200.0}}}
    taken = predict_hours(study.laid.cells, study.steps, folder, need, rates)[study.cell.name]
    assert taken.steps["pretrain"] == 2.0


def test_a_short_run_leaves_nothing_but_its_speed(study, tmp_path):
    step = MeasureStep(str(tmp_path))
    assert measured_rates(study.laid.cells, step) == {}
    assert study.runner.run(Work(study.other, step, PLACE), DRAWINGS) is None
    (rate,) = measured_rates(study.laid.cells, step).values()
    assert rate.source == "measured" and rate.images_per_s > 0
    found = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()]
    assert found == [f"measured/{study.other.name}/speed.json"]
    assert study.other.record() is None


def test_a_short_run_that_is_refused_says_why(study, tmp_path):
    recipe = study.other.recipe
    lost = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"train": "/nowhere/pictures"})}
    )
    step, cell = MeasureStep(str(tmp_path)), replace(study.other, recipe=lost)
    told = study.runner.run(Work(cell, step, PLACE), DRAWINGS)
    assert "/nowhere/pictures" in told and "\n" not in told
    assert step.values(cell) is None and not [f for f in Path(tmp_path).rglob("*") if f.is_file()]
