"""How far a cell is, who runs the study, and what it took, from files alone."""

import itertools
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.progress import settle, state_of
from mimray.train.fence import Fence, identity
from mimray.train.run_folder import RunFolder

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


ELSEWHERE = {"pid": 1, "system": "another", "began": 5}  # no process of this host
GONE = {"pid": 1, **identity(os.getpid()), "began": -1}


def hold(run, about):
    """A token of somebody else, who never let go."""
    place = Path(run.file("fence"))
    place.mkdir(parents=True, exist_ok=True)
    (place / "00000001.token").write_text(json.dumps(about))
    return place


def test_status_from_files_alone(study, folder):
    folder.predicted = {c.name: {"pretrain": 3.0, "losses": 1.0} for c in study.laid.cells}
    assert state_of(study.cell, study.steps, folder).status == "finished"
    waiting = state_of(study.other, study.steps, folder)
    assert waiting == ("waiting", "pretrain", 0.0, 4.0, None)
    folder.failures = {study.other.name: {"step": "pretrain", "reason": "broken"}}
    assert state_of(study.other, study.steps, folder)[::4] == ("failed", "broken")
    folder.failures, folder.chosen = {}, [study.cell.name]
    assert state_of(study.other, study.steps, folder).status == "left out"
    folder.chosen = None
    with folder.held():
        folder.status = "running"
        folder.note_begun(study.other.name, "pretrain")
        assert state_of(study.other, study.steps, folder).status == "running"
        folder.status = "stopped"
        assert state_of(study.other, study.steps, folder).status == "waiting"


@pytest.mark.parametrize("trainer", [GONE, ELSEWHERE])
def test_status_of_a_run_that_was_killed(study, folder, trainer):
    """A record that says `running`, of a process that is no more, and of a study that nobody runs."""
    run = RunFolder.of(study.other.recipe)
    hold(run, trainer)
    run.write_record(study.cell.record() | {"status": "running", "total_steps": 4})
    run.append_rows([{"step": 1}, {"step": 3}])
    folder.predicted = {study.other.name: {"pretrain": 4.0}}
    state = state_of(study.other, study.steps, folder)
    shutil.rmtree(run.path)
    assert (state.status, state.done, state.left) == ("stopped", 0.75, 1.0)


def test_a_cell_between_two_steps_waits_while_somebody_runs_the_study(study, folder, monkeypatch):
    class Next:
        name = "finetune"
        training = values = lambda *_: None

    steps = [study.steps[0], Next()]
    assert state_of(study.cell, steps, folder)[:2] == ("stopped", "finetune")
    monkeypatch.setattr(folder, "is_driven", lambda: True)
    assert state_of(study.cell, steps, folder)[:2] == ("waiting", "finetune")


# ----- who runs it ----------------------------------------------------------------------------------------


def test_a_study_whose_driver_was_killed_is_not_under_way_whoever_came_and_went(study, folder):
    folder.status = "running"
    folder.note_begun(study.other.name, "pretrain")
    place = hold(folder.files, GONE)
    assert not StudyFolder(study.laid).is_driven()
    with StudyFolder(study.laid).held():
        looked = StudyFolder(study.laid)
        assert looked.status == "stopped" and not looked.is_driven()
    assert state_of(study.other, study.steps, StudyFolder(study.laid)).status == "waiting"
    folder.save()  # a fence that was let go says enough
    released = StudyFolder(study.laid)
    assert released.status == "running" and not released.is_driven()
    shutil.rmtree(place)


@pytest.fixture
def quick(monkeypatch):
    """Twenty times as quick as people wait."""
    monkeypatch.setattr("mimray.train.fence._SIGN_SECONDS", 0.25)
    monkeypatch.setattr("mimray.train.fence._PATIENCE_SECONDS", 1.0)


def test_a_driver_on_another_host_is_known_by_its_changing_sign(study, folder, quick):
    folder.status = "running"
    folder.note_begun(study.other.name, "pretrain")
    place, over = hold(folder.files, ELSEWHERE), threading.Event()

    def sign():
        for count in itertools.count():
            if over.wait(0.02):
                return
            Fence(folder.files)._write("00000001", "sign", {"count": count})

    living = threading.Thread(target=sign)
    living.start()
    try:
        assert state_of(study.other, study.steps, StudyFolder(study.laid)).status == "running"
    finally:
        over.set()
        living.join()
    assert not StudyFolder(study.laid).is_driven()
    shutil.rmtree(place)


def test_a_driver_on_another_host_is_looked_for_once(study, folder, monkeypatch):
    looks = []
    monkeypatch.setattr(Fence, "is_held", lambda fence: looks.append(fence) or True)
    folder.status = "running"
    assert folder.is_driven() and folder.is_driven() and len(looks) == 1


# ----- what it took ---------------------------------------------------------------------------------------


def test_what_was_spent_before_a_stop_counts(study, folder, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("mimray.study.scaling.folder.time.time", lambda: now[0])
    spent = []
    for took, reason in ((30.0, None), (20.0, "broken"), (5.0, None)):
        folder.note_begun(study.other.name, "pretrain")
        now[0] += took
        folder.note_ended(study.other.name, "pretrain", reason)
        spent.append(folder.seconds[study.other.name]["pretrain"]["seconds"])
        now[0] += 1000.0
    assert spent == [30.0, 50.0, 55.0]


def test_what_was_spent_before_a_kill_counts_up_to_the_last_row(study, folder):
    run = RunFolder.of(study.other.recipe)
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
