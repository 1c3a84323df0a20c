"""What a sweep's own folder keeps, and what a table makes of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mimray.errors import UserError
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.objective import objective_of
from mimray.study.sweeps.table import sweep_rows
from mimray.study.sweeps.watching import Watch, tune_callback
from mimray.train.fence import identity
from mimray.train.run_folder import RunFolder
from tests.study.sweeps.small import GRID, OFTEN, begun, trial_of

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_one_driver_at_a_time(lay_out, tmp_path):
    folder, other = SweepFolder(*lay_out(GRID)), SweepFolder(*lay_out(GRID))
    with folder.held():
        folder.save()
        with pytest.raises(UserError, match="tiny is under way in another process"), other.held():
            pytest.fail("two write one record")
        folder.note_failed("a", "so")
    with other.held():
        assert other.failures == {"a": "so"} and other.uid == folder.uid  # as the first one left it


def test_nothing_is_left_of_a_sweep_that_never_began(lay_out, tmp_path):
    with pytest.raises(UserError, match="why"), SweepFolder(*lay_out(GRID)).held():
        raise UserError("why")
    assert not (tmp_path / "runs").exists()


def test_a_trial_whose_process_was_killed_has_died(lay_out):
    sweep, cells = lay_out(GRID)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    trial = trial_of(lay_out)
    begun(trial, [])
    run = RunFolder.of(trial.cell.recipe)
    record = run.record() | {"final": {}, "steps": 4}
    run.write_record(record)
    holder = {"system": identity(1)["system"], "began": "long ago", "pid": 1}
    (Path(run.path) / "fence").mkdir()
    (Path(run.path) / "fence" / "00000001.token").write_text(json.dumps(holder))
    rows = sweep_rows(sweep, cells, objective, folder)
    assert [row["status"] for row in rows] == ["died"] + ["waiting"] * 5 and rows[0]["steps"] == 4


def test_what_an_ended_trial_trained_counts_whole(lay_out):
    sweep, cells = lay_out(f"{GRID}stop: asha", OFTEN)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    for cell, steps in zip(cells, (1, 6), strict=False):  # behind the step of its end, and past it
        run = RunFolder.of(cell.recipe)
        run.make()
        about = {"recipe_digest": "x", "status": "running", "final": {}, "total_steps": 20}
        run.write_record(about | {"steps": steps})
        folder.note_stopped(cell.name, 2, [[0.1, 0.0]])
    rows = sweep_rows(sweep, cells, objective, folder)[:2]
    assert [(row["status"], row["steps"]) for row in rows] == [("ended", 2), ("ended", 6)]


def test_a_trial_that_is_tried_again_has_not_failed(lay_out):
    sweep, cells = lay_out(GRID)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    begun(trial_of(lay_out), [])
    run = RunFolder.of(cells[0].recipe)
    run.write_record(run.record() | {"final": {}, "steps": 4})
    for cell in cells[:2]:
        folder.note_failed(cell.name, "so")
    watch = Watch(cells, objective, folder, None, print, 0, 6)
    listener = tune_callback(watch, lambda config: config["cell"])
    listener.on_trial_start(1, [], SimpleNamespace(config={"cell": cells[0].name}))
    rows = sweep_rows(sweep, cells, objective, SweepFolder(sweep, cells))
    assert [row["status"] for row in rows[:3]] == ["running", "failed", "waiting"]
