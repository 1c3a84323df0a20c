"""Sweeps by a real Ray, killed, stopped and with a trial that fails: the command line in a process of its
own."""

import json
import os
import signal
import sys
import time

import pytest

from tests.train.runs import in_background

pytestmark = pytest.mark.slow  # private Rays: `make test` has eight minutes

SWEEP = """
name: tiny
recipe: demo
set:
  model.encoder: vit_nano
  model.image_size: 32
  model.window: null
  head.kind: linear
  speed.workers: 1
  speed.block_rows: 16
  optim.batch: 16
  schedule.length: 100it
  schedule.warmup: 4it
  run.validate_every: 10it
  run.checkpoint_every: 10it
  run.log_every: 1it
reference_mask: {unit: 8, ratio: 0.5}
grid: {mask.unit: [8, 16], optim.lr: [0.000001, 0.005, 0.01]}
stop: {grace: 0.1, reduction_factor: 3}
seed: 5
"""


def command(folder, *more):
    words = [f"run.storage={folder}/runs", f"run.tracking=sqlite:///{folder}/mlflow.db", "--json"]
    file = folder / "tiny.yaml"
    return [sys.executable, "-m", "mimray.cli", "sweep", str(file), *words, *more]


def start(folder, *more):
    return in_background(command(folder, *more), folder)


def finish(folder, *more, status=0):
    """The one object that is printed."""
    process = start(folder, *more)
    out, err = process.communicate(timeout=900)
    assert process.returncode == status, err
    return json.loads(out)


def records(folder):
    found = [json.loads(file.read_text()) for file in (folder / "runs").glob("tiny-*/run.json")]
    return {record["name"]: record for record in found}


def ended(folder):
    file = folder / "runs" / "sweeps" / "tiny" / "sweep.json"
    return set(json.loads(file.read_text())["stopped"]) if file.exists() else set()


def wait_until(there, process):
    deadline = time.monotonic() + 500
    while not there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_and_asked_again_it_repeats_nothing(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SWEEP)

    def by_status(status):
        gone = ended(tmp_path)
        return {
            n: r for n, r in records(tmp_path).items() if r["status"] == status and n not in gone
        }

    def in_the_middle():
        going = by_status("running").values()
        return by_status("finished") and ended(tmp_path) and any(r["steps"] for r in going)

    first = start(tmp_path)
    wait_until(in_the_middle, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before, finished, gone = records(tmp_path), by_status("finished"), ended(tmp_path)
    going = by_status("running")

    result = finish(tmp_path)
    assert {row["status"] for row in result["cells"]} == {"finished", "ended"}
    again = records(tmp_path)
    for name in {*finished, *gone}:
        assert again[name]["starts"] == before[name]["starts"]
    assert gone <= ended(tmp_path) and len(again) == 6
    went_on = [again[name]["starts"][1]["step"] for name in going]
    assert max(went_on) >= 10  # from its checkpoint
    assert result["best"]["objective"] == max(
        row["objective"] for row in result["cells"] if row["objective"] is not None
    )
    assert result["steps"] < result["steps_of_all"] == 600
    place = tmp_path / "runs" / "sweeps" / "tiny"
    assert "mask:" in (place / "best.yaml").read_text()
    assert not (place / "tune").exists()

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["mimray.kind"] == "sweep")
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(children) == 6 and all("mask/average_distance" in r.data.metrics for r in children)
    assert parent.data.metrics["sweep/best"] == pytest.approx(result["best"]["objective"])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_says_so_and_leaves_a_table(tmp_path, sign):
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    process = start(tmp_path)
    wait_until(lambda: any(r["steps"] for r in records(tmp_path).values()), process)
    os.kill(process.pid, sign)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75 and not out
    assert err.strip().splitlines()[-1].endswith("the same command goes on")
    table = json.loads((tmp_path / "runs" / "sweeps" / "tiny" / "table.json").read_text())
    assert len(table["rows"]) == 6


def test_a_trial_that_fails_leaves_the_others_and_optuna_learns_from_them(tmp_path):
    pytest.importorskip("optuna")
    text = SWEEP.partition("grid:")[0].replace("length: 100it", "length: 20it")
    text += "grid: {mask.unit: [8, 16], optim.lr: [0.005, 1.0e+30]}\nsearch: optuna\nsamples: 4\n"
    (tmp_path / "tiny.yaml").write_text(text)
    often = ("optim.skips=2", "optim.rollbacks=0")
    cells = finish(tmp_path, *often, status=3)["cells"]
    assert len(cells) == 4
    for row in cells:
        failed = row["optim.lr"] > 1
        assert row["status"] == ("failed" if failed else "finished")
        assert failed == bool(row["reason"]) and "\n" not in (row["reason"] or "")
    assert finish(tmp_path, "--status", *often, status=3)["cells"] == cells


def test_optuna_chooses_within_a_range(tmp_path):
    pytest.importorskip("optuna")
    text = SWEEP.partition("grid:")[0].replace("length: 100it", "length: 20it")
    text += "grid: {optim.lr: {low: 0.001, high: 0.01, log: true}}\nsearch: optuna\nsamples: 3\n"
    (tmp_path / "tiny.yaml").write_text(text)
    cells = finish(tmp_path)["cells"]
    rates = [row["optim.lr"] for row in cells]
    assert len(set(rates)) == 3 and all(0.001 <= rate <= 0.01 for rate in rates)
    assert {row["status"] for row in cells} == {"finished"}
    before = records(tmp_path)
    assert finish(tmp_path)["cells"] == cells and records(tmp_path) == before


@pytest.mark.long
def test_trials_with_trainers_of_their_own(tmp_path):
    """The trial itself takes nothing; its trainers are a group, and one process fine-tunes after them."""
    text = SWEEP.partition("grid:")[0].partition("reference_mask:")[0]
    for given, asked in (
        ("workers: 1", "workers: 2"),
        ("100it", "6it"),
        ("4it", "2it"),
        ("10it", "3it"),
    ):
        assert given in text
        text = text.replace(given, asked)
    text += (
        "grid: {mask.unit: [8, 16]}\nobjective: finetune\nfinetune:\n  set: {speed.workers: 1, "
        "schedule.length: 4it, schedule.warmup: 1it, run.validate_every: 4it, run.checkpoint_every: 4it}\n"
    )
    (tmp_path / "tiny.yaml").write_text(text)
    result = finish(tmp_path)
    assert [row["status"] for row in result["cells"]] == ["finished"] * 2
    assert result["steps"] == result["steps_of_all"] == 12
    known = records(tmp_path)
    for row in result["cells"]:
        (tuned,) = (r for name, r in known.items() if name.startswith(f"{row['run']}-finetune-"))
        assert tuned["final"]["val/top1"] == row["objective"]
        assert [start["workers"] for start in known[row["run"]]["starts"]] == [2]
        assert [start["workers"] for start in tuned["starts"]] == [1]
    assert finish(tmp_path)["cells"] == result["cells"] and records(tmp_path) == known
