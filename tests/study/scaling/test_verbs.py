"""`mimray study run` and `status` as people type them, without a Ray."""

import json

import pytest
import torch

from mimray.cli import main

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
    assert "operations at 40% of 0.1 TFLOP/s" in out
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


def test_status_of_a_study_that_has_not_begun(study, capsys):
    assert study("status", "--once") == 0
    out = capsys.readouterr().out
    assert "tiny: 0 of 6 cells finished, 0 running" in out and out.count("waiting") == 6
    assert study("status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {cell["status"] for cell in told["cells"]} == {"waiting"} and not told["under_way"]


def test_no_study(capsys):
    assert main(["study", "status", "nowhere.yaml"]) == 2
    assert "no study 'nowhere.yaml'" in one_line(capsys)


def test_a_budget_is_a_number(study):
    with pytest.raises(SystemExit) as ended:
        study("run", "--budget", "much")
    assert ended.value.code == 2
