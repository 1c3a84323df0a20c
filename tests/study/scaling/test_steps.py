"""A cell through the steps that measure it, in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimray.data.rowset import RowSet
from mimray.data.sources import open_source
from mimray.data.subset import choose
from mimray.errors import UserError
from mimray.evaluate.frozen import Question
from mimray.study import frozen_top1
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.frozen import FrozenStep
from mimray.study.scaling.losses import LossesStep, compared
from mimray.study.scaling.runners import Work
from mimray.study.scaling.steps import FinetuneStep, check_steps
from mimray.study.sweeps.sweep import Finetune
from tests.study.scaling.tiny import DRAWINGS, HERE, PLACE

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_every_step_leaves_its_fact(study):
    assert study.told == [None] * 3
    found = [step.values(study.cell) for step in study.steps]
    assert found[0]["speed/images_per_s"] > 0
    assert 0 < found[1]["train_loss"] < 2 and 0 < found[1]["val_loss"] < 2
    assert 0 <= found[2]["knn/top1"] <= 1
    assert [step.values(study.other) for step in study.steps] == [None] * 3


def test_losses_at_the_end_are_those_of_the_runs_own_validation(study):
    """Other crops and masks of the same training pictures make another training loss."""
    final = study.cell.record()["final"]
    found = study.steps[1].values(study.cell)
    assert found["val_loss"] == pytest.approx(final["val/loss"], rel=1e-5)
    assert found["val_skill"] == pytest.approx(final["val/skill"], abs=1e-5)
    assert found["train_loss"] != pytest.approx(found["val_loss"], rel=1e-4)


def test_reconstructions_stand_side_by_side(study):
    place = study.folder.files.path.replace(
        "studies/tiny", f"{study.cell.name}/figures/train_and_val.png"
    )
    assert Path(place).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_finished_step_is_not_repeated(study):
    before = len(study.cell.record()["starts"])
    for step in study.steps:
        if (
            step.name != "losses"
        ):  # the schedule skips what has values; runs and probes do it themselves
            assert study.runner.run(Work(study.cell, step, PLACE), DRAWINGS) is None
    assert len(study.cell.record()["starts"]) == before == 1


@pytest.mark.parametrize(("own", "cpus"), [({}, 3), ({"speed.cpus_per_worker": 2}, 2)])
def test_a_finetuning_takes_the_cpus_of_its_cell(study, own, cpus):
    """Unless its settings name others."""
    recipe = study.cell.recipe
    speed = recipe.speed.model_copy(update={"cpus_per_worker": 3})
    cell = replace(study.cell, recipe=recipe.model_copy(update={"speed": speed}))
    step = FinetuneStep("tiny", Finetune(recipe="finetune_demo", set=own))
    assert step.training(cell).speed.cpus_per_worker == cpus


def test_losses_on_another_number_of_pictures_are_others(study):
    assert LossesStep(study.folder.compared, 120).values(study.cell) is not None
    assert LossesStep(study.folder.compared - 1, 120).values(study.cell) is None


def test_subsets_that_nest_are_compared_on_the_same_pictures():
    source = open_source("builtin:photos/train")
    some, more = (choose(source, share) for share in (0.1, 0.5))
    everything = RowSet.everything(len(source))
    rows = [compared(which, len(some)) for which in (some, more, everything)]
    assert set(rows[0]) == set(some.rows())
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[1], rows[2])
    assert np.array_equal(compared(everything, 4), rows[0][:4])


def test_a_failure_is_a_line(study):
    class Fails:
        name = "fails"

        def measure(self, *_):
            raise UserError("the loss is not finite")

    assert study.runner.run(Work(study.cell, Fails(), PLACE), DRAWINGS) == "the loss is not finite"


def test_status_says_the_same_from_another_folder(tmp_path, monkeypatch):
    """Pictures that were named by a relative path, too."""
    (tmp_path / "tiny.yaml").write_text(HERE)
    steps = FrozenStep("knn", "photos", "others"), FrozenStep("knn", "photos", "more")
    cell = load_study(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path / 'runs'}"]).cells[0]
    names = [step._asked.name(cell) for step in steps]
    monkeypatch.chdir(tmp_path)
    assert [step._asked.name(cell) for step in steps] == names and names[0] != names[1]


def test_a_score_on_other_pictures_is_not_mixed_with_new_ones(study, monkeypatch):
    """By the digests in the record that the step itself has left."""
    step, cells = study.steps[2], [study.other, study.cell]
    check_steps([step], cells)

    def grown(uri, split):
        source = open_source(uri)
        source.digest += "0" if split == "val" else ""
        return source

    monkeypatch.setattr(frozen_top1, "open_pictures", grown)
    check_steps([step], cells[:1])
    with pytest.raises(UserError) as told:
        check_steps([step], cells)
    assert str(told.value).startswith(f"knn: run {study.cell.name} (model=nano data=photos 10% ")
    assert "was scored on other pictures than builtin:photos/val holds now; bring" in str(
        told.value
    )


def test_frozen_features_are_of_pictures_turned_as_training_had_them(study, monkeypatch):
    asked = []
    monkeypatch.setattr(Question, "answer", lambda question, *_: asked.append(question))
    recipe = study.cell.recipe
    data = recipe.data.model_copy(update={"upright": True})
    turned = replace(study.cell, recipe=recipe.model_copy(update={"data": data}))
    step = FrozenStep("knn", "builtin:photos/train", "builtin:photos/val")
    for cell in (study.cell, turned):
        step.measure(cell, PLACE, DRAWINGS)
    assert [question.upright for question in asked] == [False, True]
    assert asked[0].name != asked[1].name
