"""What a sweep notes of its pictures, and what it says before it replaces a table of other settings."""

import json
from contextlib import nullcontext

import pytest

from mimray.cli import main
from mimray.evaluate.workers import Share
from mimray.study.placing import Plan
from mimray.study.sweeps import tuner
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.objective import objective_of
from mimray.train.prepare import open_data
from mimray.train.run_folder import RunFolder
from mimray.verbs.sweep import _conventions
from tests.study.sweeps.small import MASKS

pytestmark = pytest.mark.unit

SWAPPED = "{set: {data.train: 'builtin:photos/val', data.val: 'builtin:photos/train'}}"
SAID = "fine-tuned on builtin:photos/val, tested on builtin:photos/train"


def finish(sweep, cells, *_):
    """In place of trials."""
    for cell in cells:
        run, recipe = RunFolder.of(cell.recipe), cell.recipe
        run.make()
        about = {"name": cell.name, "recipe_digest": recipe.digest(), "status": "finished"}
        about |= {"steps": 4, "total_steps": 4, "data_digest": open_data(recipe).data_digest}
        run.write_record(about | {"final": {"val/reference_skill": 0.5}})


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuner, "room_for", lambda cells: nullcontext(Plan(Share(1), Share(1), 1)))
    monkeypatch.setattr(tuner, "run_trials", finish)

    def call(*words, text=MASKS):
        (tmp_path / "tiny.yaml").write_text(text)
        own = [f"run.storage={tmp_path / 'runs'}", "run.tracking=off"]
        assert main(["sweep", str(tmp_path / "tiny.yaml"), *own, *words]) == 0
        return capsys.readouterr().err

    return call


def test_a_table_of_other_settings_is_not_replaced_without_a_word(sweep, tmp_path):
    assert "table of other settings" not in sweep()
    assert "table of other settings" not in sweep()  # the same again
    said = sweep("run.seed=1")
    assert "sweeps/tiny: holds a table of other settings (2 trials that are none of these)" in said
    assert "run.storage keeps both" in said
    assert "table of other settings" not in sweep("run.seed=1")
    more = MASKS.replace("[8, 16]", "[8, 16], mask.ratio: [0.5, 0.6]")
    assert "table of other settings" not in sweep("run.seed=1", text=more)  # it only grows
    (tmp_path / "runs" / "sweeps" / "tiny" / "table.json").write_text("no table")
    assert "table of other settings" not in sweep()


def test_results_of_other_settings_are_not_left_beside_a_new_table(sweep, tmp_path, monkeypatch):
    place = tmp_path / "runs" / "sweeps" / "tiny"
    text = MASKS.replace("[8, 16]", "[8, 16], mask.ratio: [0.5, 0.6]")
    sweep(text=text)
    made = {"best.yaml", "heat_map.png"}
    assert made <= {file.name for file in place.iterdir()}
    monkeypatch.setattr(tuner, "run_trials", lambda *_: None)  # stopped before a trial ends
    sweep("run.seed=1", text=text)
    assert not made & {file.name for file in place.iterdir()}
    assert (place / "table.csv").exists()


def test_pictures_stand_in_its_notes_and_under_its_figures(sweep, tmp_path):
    text = f"{MASKS}objective: finetune\nfinetune: {SWAPPED}\n"
    sweep(text=text)
    place = tmp_path / "runs" / "sweeps" / "tiny"
    assert json.loads((place / "sweep.json").read_text())["pictures"] == SAID
    assert json.loads((place / "table.json").read_text())["pictures"] == SAID
    one, cells = load_sweep(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path / 'runs'}"])
    assert _conventions(one, cells, objective_of(one, cells))["pictures"] == SAID
    assert SweepFolder(one, cells).pictures == SAID
