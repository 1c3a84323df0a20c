"""A cell from its pre-training to its row of the table, in this process."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimray.data.rowset import RowSet
from mimray.data.sources import open_source
from mimray.data.subset import choose
from mimray.errors import UserError
from mimray.evaluate.cells import Draws
from mimray.evaluate.table_files import table_files
from mimray.evaluate.workers import Share
from mimray.study.reading.table import read_table
from mimray.study.scaling.account import Need
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.frozen import FrozenStep
from mimray.study.scaling.hours import Rate, known_rates, predict_hours
from mimray.study.scaling.losses import LossesStep, compared
from mimray.study.scaling.plan import open_study
from mimray.study.scaling.progress import settle, state_of
from mimray.study.scaling.runners import Runner, Work
from mimray.study.scaling.steps import Drawings, FinetuneStep, Place
from mimray.study.scaling.table import columns, study_rows
from mimray.study.sweeps.sweep import Finetune
from mimray.train.fence import identity
from mimray.train.run_folder import RunFolder
from mimray.verbs.study.sheet import side_by_side

pytestmark = pytest.mark.unit
torch.set_num_threads(1)

STUDY = """
recipe: demo
set:
  {model.image_size: 32, model.window: null, mask.unit: 8, speed.workers: 1, speed.device: cpu,
   optim.batch: 16, run.validate_every: 100%, run.log_every: 1it, run.tracking: "off"}
encoders: {nano: vit_nano}
subsets: {photos 10%: 10%, photos 100%: 100%}
lengths: [4]
tasks: [knn]
"""
DRAWINGS = Drawings(Draws(lambda *_: b"png", lambda *_: b"png"), side_by_side)
PLACE = Place(Share(1))


class Study:
    """A study with one cell that has been through all its steps."""

    def __init__(self, folder):
        (folder / "tiny.yaml").write_text(STUDY)
        self.laid = load_study(str(folder / "tiny.yaml"), [f"run.storage={folder / 'runs'}"])
        self.folder = StudyFolder(self.laid)
        self.steps = open_study(self.laid, self.folder)
        self.cell, self.other = self.laid.cells
        self.folder.begin()
        self.runner = Runner(str(folder))
        self.told = [self.runner.run(Work(self.cell, s, PLACE), DRAWINGS) for s in self.steps]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("study"))


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


# ----- status and table -----------------------------------------------------------------------------------


def test_the_table_is_read_by_the_report_also_in_part(study, tmp_path):
    rows = study_rows(study.laid.cells, study.steps, study.folder)
    for name, data in table_files(rows, columns(study.steps)).items():
        (tmp_path / name).write_bytes(data)
    (done, waiting) = rows
    assert (done["status"], waiting["status"]) == ("finished", "waiting")
    assert done["images"] == 88 and done["epochs"] == pytest.approx(64 / 88)
    assert done["params"] == study.folder.params["nano"] and done["source"] == "photos"
    with pytest.raises(UserError, match="1 rows have a validation loss"):
        read_table(str(tmp_path))
    text = (tmp_path / "table.csv").read_text().splitlines()
    for length in (5, 6):
        text.append(text[1].replace(",4,", f",{length},", 1))
    (tmp_path / "table.parquet").unlink()
    (tmp_path / "table.csv").write_text("\n".join(text))
    table = read_table(str(tmp_path))
    assert len(table.runs) == 3 and table.unfinished == 1
    assert table.tasks == ("top1", "knn/top1") and table.runs[0].train_loss == done["train_loss"]


def test_means_over_seeds(study):
    twin = replace(study.cell, values=study.cell.values | {"seed": 1})
    cells = [study.cell, twin, study.other]
    row = study_rows(cells, study.steps, study.folder)[0]
    assert row["seeds"] == 2 and row["val_loss"] == study.steps[1].values(study.cell)["val_loss"]


def test_status_from_files_alone(study):
    folder = StudyFolder(study.laid)
    folder.predicted = {c.name: {"pretrain": 3.0, "losses": 1.0} for c in study.laid.cells}
    assert state_of(study.cell, study.steps, folder).status == "finished"
    waiting = state_of(study.other, study.steps, folder)
    assert waiting == ("waiting", "pretrain", 0.0, 4.0, None)
    folder.failures = {study.other.name: {"step": "pretrain", "reason": "broken"}}
    assert state_of(study.other, study.steps, folder)[::4] == ("failed", "broken")
    folder.failures, folder.chosen = {}, [study.cell.name]
    assert state_of(study.other, study.steps, folder).status == "left out"
    folder.chosen, folder.status = None, "running"
    folder.note_begun(study.other.name, "pretrain")
    assert state_of(study.other, study.steps, folder).status == "running"
    folder.status = "stopped"
    assert state_of(study.other, study.steps, folder).status == "waiting"
    folder.save()


def test_status_of_a_run_that_was_killed(study):
    """A record that says `running`, of a process that is no more."""
    run = RunFolder.of(study.other.recipe)
    Path(run.file("fence")).mkdir(parents=True)
    run.write_record(study.cell.record() | {"status": "running", "total_steps": 4})
    run.append_rows([{"step": 1}, {"step": 3}])
    about = {"pid": 1, **identity(os.getpid()), "began": -1}
    Path(run.file("fence/00000001.token")).write_text(json.dumps(about))
    folder = StudyFolder(study.laid)
    folder.predicted = {study.other.name: {"pretrain": 4.0}}
    state = state_of(study.other, study.steps, folder)
    shutil.rmtree(run.path)
    assert (state.status, state.done, state.left) == ("stopped", 0.75, 1.0)


def test_a_cell_between_two_steps_waits_while_somebody_runs_the_study(study, monkeypatch):
    class Next:
        name = "finetune"
        training = values = lambda *_: None

    steps, folder = [study.steps[0], Next()], StudyFolder(study.laid)
    assert state_of(study.cell, steps, folder)[:2] == ("stopped", "finetune")
    monkeypatch.setattr(folder, "is_driven", lambda: True)
    assert state_of(study.cell, steps, folder)[:2] == ("waiting", "finetune")


def test_what_was_spent_before_a_stop_counts(study, monkeypatch):
    folder, now = StudyFolder(study.laid), [100.0]
    monkeypatch.setattr("mimray.study.scaling.folder.time.time", lambda: now[0])
    spent = []
    for took, reason in ((30.0, None), (20.0, "broken"), (5.0, None)):
        folder.note_begun(study.other.name, "pretrain")
        now[0] += took
        folder.note_ended(study.other.name, "pretrain", reason)
        spent.append(folder.seconds[study.other.name]["pretrain"]["seconds"])
        now[0] += 1000.0
    del folder.seconds[study.other.name]
    folder.save()
    assert spent == [30.0, 50.0, 55.0]


def test_what_was_spent_before_a_kill_counts_up_to_the_last_row(study):
    folder, run = StudyFolder(study.laid), RunFolder.of(study.other.recipe)
    Path(run.path).mkdir(parents=True)
    run.append_rows([{"step": 1, "time": 103.0}, {"step": 2, "time": 107.5}])
    folder.seconds = {
        study.other.name: {
            "pretrain": {"began": 100.0, "before": 40.0},
            "losses": {"began": 200.0, "before": 0.0},  # of which no metrics tell
            "knn": {"began": 300.0, "before": 0.0, "seconds": 9.0},  # has ended
        }
    }
    folder.status = "running"
    settle(study.laid.cells, study.steps, folder)
    noted = folder.seconds[study.other.name]
    assert {name: one["seconds"] for name, one in noted.items()} == {
        "pretrain": 47.5,
        "losses": 0.0,
        "knn": 9.0,
    }
    folder.note_begun(study.other.name, "pretrain")
    assert folder.seconds[study.other.name]["pretrain"]["before"] == 47.5
    shutil.rmtree(run.path)
    folder.seconds, folder.status = {}, "waiting"
    folder.save()


# ----- hours ----------------------------------------------------------------------------------------------


def test_hours_come_from_what_was_measured(study):
    rates = known_rates(study.laid.cells)
    assert rates["nano"].source == "measured"
    assert rates["nano"].images_per_s == study.cell.record()["final"]["images_per_s"]
    folder = StudyFolder(study.laid)
    folder.compared, folder.val = 88, 120
    rates = {"nano": Rate(10.0, "measured")}
    need = lambda cell, step: Need(Share(2))  # noqa: E731
    hours = predict_hours(study.laid.cells, study.steps, folder, need, rates)[study.other.name]
    assert 3600 * hours.steps["pretrain"] == pytest.approx(2.0 + 4 * 16 / 10)
    assert hours.cost == pytest.approx(2 * hours.clock)
    folder.seconds = {study.cell.name: {"pretrain": {"began": 0.0, "seconds": 7200.0}}}
    taken = predict_hours(study.laid.cells, study.steps, folder, need, rates)[study.cell.name]
    assert taken.steps["pretrain"] == 2.0


def test_status_says_the_same_from_another_folder(tmp_path, monkeypatch):
    """Pictures that were named by a relative path, too."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    steps = FrozenStep("knn", "photos", "others"), FrozenStep("knn", "photos", "more")
    cell = load_study(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path / 'runs'}"]).cells[0]
    names = [step._name(cell) for step in steps]
    monkeypatch.chdir(tmp_path)
    assert [step._name(cell) for step in steps] == names and names[0] != names[1]
