"""`mimray study run` and `status` as people type them, without a Ray."""

import json
from io import StringIO

import pytest
import torch
from rich.console import Console

from mimray.cli import main
from mimray.errors import UserError
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.measuring import MeasureStep
from mimray.study.scaling.schedule import _starts
from mimray.train.run_folder import RunFolder
from mimray.verbs.study import running, status
from tests.study.scaling.tiny import DRAWINGS, PLACE

pytestmark = pytest.mark.unit
torch.set_num_threads(1)

STUDY = """
recipe: demo
set:
  {model.image_size: 32, model.window: null, mask.unit: 8, speed.workers: 1, speed.device: cpu,
   optim.batch: 16, run.tracking: "off"}
encoders: {nano: vit_nano}
subsets: {photos 10%: 10%, photos 50%: 50%}
lengths: [100, 200, 400]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "tiny.yaml").write_text(STUDY)

    def call(action, *words):
        return main(
            ["study", action, str(tmp_path / "tiny.yaml"), *words, f"run.storage={tmp_path}/runs"]
        )

    return call


def one_line(capsys):
    out, err = capsys.readouterr()
    assert not out and len(err.strip().splitlines()) == 1
    return err


def test_what_it_will_take_is_said_and_nothing_is_left_behind(study, capsys, tmp_path):
    assert study("run", "--dry-run", "--tflops", "0.1") == 0
    out = capsys.readouterr().out
    assert "tiny: 6 of 6 cells" in out and "core-hours predicted" in out
    assert (
        "operations at 40% of 0.1 TFLOP/s; small models take several times as long: --measure"
        in out
    )
    assert not list((tmp_path / "runs").glob("*"))


def test_a_budget_takes_the_cells_that_tell_most(study, capsys):
    assert study("run", "--dry-run", "--tflops", "0.1", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    budget = f"{0.4 * whole['hours']:.6f}"
    assert study("run", "--dry-run", "--tflops", "0.1", "--json", "--budget", budget) == 0
    part = json.loads(capsys.readouterr().out)
    chosen = [cell for cell in part["cells"] if cell["chosen"]]
    assert 0 < part["hours"] <= float(budget) and 2 <= len(chosen) < 6
    assert part["hours"] == pytest.approx(sum(cell["hours"] for cell in chosen))
    assert {"100", "200"} <= {str(cell["iterations"]) for cell in chosen}


def test_a_budget_that_pays_for_nothing(study, capsys):
    assert study("run", "--dry-run", "--tflops", "0.1", "--budget", "1e-6") == 2
    assert "--budget 1e-06: no pair of a model and its data fits" in one_line(capsys)


# ----- --measure ------------------------------------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Steps run without a Ray: those that measure, and no others. Cells that were measured."""
    measured = []

    def run_steps(cells, steps, needs, hours, session, drawings, listener):
        for cell in cells if isinstance(steps[0], MeasureStep) else []:
            measured.append(cell)
            listener.begun(cell, steps[0])
            reason = None
            try:
                steps[0].measure(cell, PLACE, DRAWINGS)
            except UserError as error:
                reason = str(error)
            listener.ended(cell, steps[0], reason)

    monkeypatch.setattr(running, "run_steps", run_steps)
    return measured


def test_each_encoder_is_measured_once(study, capsys, in_this_process, tmp_path):
    assert study("run", "--measure", "speed.cpus_per_worker=1") == 0
    said = capsys.readouterr()
    assert "core-hours predicted, from measured images/s" in said.err + said.out
    assert [cell.values["model"] for cell in in_this_process] == ["nano"]
    assert study("run", "--measure", "speed.cpus_per_worker=1") == 0  # its speed is known
    assert len(in_this_process) == 1
    notes = json.loads((tmp_path / "runs" / "studies" / "tiny" / "study.json").read_text())
    (speed,) = (tmp_path / "runs" / "studies" / "tiny" / "measured").rglob("speed.json")
    rate = json.loads(speed.read_text())["images_per_s"]
    hours = notes["predicted"][in_this_process[0].name]["pretrain"]
    assert 3600 * hours == pytest.approx(2.0 + 100 * 16 / rate)


def test_a_dry_run_measures_nothing(study, capsys, in_this_process, tmp_path):
    assert study("run", "--dry-run", "--measure") == 2
    assert "--measure trains twenty steps of each encoder, and --dry-run nothing" in one_line(
        capsys
    )
    assert not in_this_process and not (tmp_path / "runs").exists()


def test_a_measurement_that_fails_ends_the_command_with_its_reason(
    study, capsys, in_this_process, monkeypatch
):
    def fails(*_):
        raise UserError("optim.batch=16: no room")

    monkeypatch.setattr("mimray.study.scaling.measuring.train", fails)
    assert study("run", "--measure") == 3
    assert "--measure: nano, photos 10%, 100 iterations: optim.batch=16: no room" in one_line(
        capsys
    )


# ----- a damaged file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--budget", "100"]])
def test_a_damaged_record_is_left_to_its_cell(study, capsys, tmp_path, words):
    laid = load_study(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path}/runs"])
    cell = laid.cells[0]
    run = RunFolder.of(cell.recipe)
    run.make()
    run.write("run.json", b'{"na')
    notes = StudyFolder(laid)
    notes.seconds = {cell.name: {"pretrain": {"began": 0.0, "seconds": 7200.0}}}
    notes.save()
    assert _starts(run) == 0
    assert study("run", "--dry-run", "--tflops", "0.1", "--json", *words) == 0
    told = {one["run"]: one for one in json.loads(capsys.readouterr().out)["cells"]}
    assert len(told) == 6 and told[cell.name]["chosen"]
    assert told[cell.name]["hours"] < 0.1  # as any that is still to run
    assert study("status", "--once") == 0
    assert "nano, photos 10%, 100 failed: " in capsys.readouterr().out


# ----- what cannot be -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["speed.cpus_per_worker=1000"], "the largest host has"),
        (["speed.device=gpu", "speed.workers=8"], "speed.workers=8 need a GPU each"),
        (["mask.unit=7"], "mask.unit=7 does not divide"),
        (["data.train=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(study, capsys, tmp_path, words, says):
    assert study("run", *words) == 2
    assert says in one_line(capsys)
    assert not list((tmp_path / "runs").glob("*"))


# ----- status ---------------------------------------------------------------------------------------------


def test_status_of_a_study_that_has_not_begun(study, capsys):
    assert study("status", "--once") == 0
    out = capsys.readouterr().out
    assert "tiny: 0 of 6 cells finished, 0 running" in out and out.count("waiting") == 6
    assert study("status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {cell["status"] for cell in told["cells"]} == {"waiting"} and not told["under_way"]


def test_status_on_a_terminal_goes_on_until_the_study_ends(tmp_path, monkeypatch, capsys):
    lengths = ", ".join(map(str, range(100, 115)))
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("100, 200, 400", lengths))
    laid = load_study(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path}/runs"])
    driven, slept = iter([True, True, False]), []

    def sleep(seconds):  # a cell fails between two looks
        slept.append(seconds)
        notes = StudyFolder(laid)
        notes.failures = {laid.cells[-1].name: {"step": "pretrain", "reason": "broken"}}
        notes.save()

    monkeypatch.setattr(StudyFolder, "is_driven", lambda folder: next(driven))
    monkeypatch.setattr(status.time, "sleep", sleep)
    drawn = StringIO()
    console = Console(file=drawn, width=80, height=24, force_terminal=True)
    status._live(laid, console)
    first, second = drawn.getvalue().split("and 12 cells more")[:2]
    assert len(slept) == 2 and all(seconds >= 2 for seconds in slept)
    assert "failed" not in first and "failed" in second
    assert first.count("waiting") == 18 and second.count("waiting") == 17  # of 24 lines
    out = capsys.readouterr().out
    assert out.count("waiting") == 29 and "tiny: 0 of 30 cells finished, 0 running" in out
    assert "nano, photos 50%, 114 failed: broken" in out


def test_no_study(capsys):
    assert main(["study", "status", "nowhere.yaml"]) == 2
    assert "no study 'nowhere.yaml'" in one_line(capsys)


def test_a_budget_is_a_number(study):
    with pytest.raises(SystemExit) as ended:
        study("run", "--budget", "much")
    assert ended.value.code == 2
