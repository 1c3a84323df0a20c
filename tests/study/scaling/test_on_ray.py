"""A study by a real Ray, killed in the middle: the command line in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.study.scaling import tiny
from tests.train.runs import environment

pytestmark = pytest.mark.slow  # three private Rays: `make test` has eight minutes

STUDY = (
    tiny.STUDY
    + """\
  run.checkpoint_every: 10%
  speed.workers: 1
  speed.cpus_per_worker: 1
encoders: [vit_nano]
subsets: {photos 10%: 10%, photos 100%: 100%}
lengths: [200, 210]
finetune: {recipe: finetune_demo, set: {schedule.length: 10it, data.labels: 20%}}
tasks: [knn]
"""
)


def command(folder, *words, action="run", name="tiny"):
    settings = [f"run.storage={folder}/runs", f"run.tracking=sqlite:///{folder}/mlflow.db"]
    asked = [sys.executable, "-m", "mimray.cli", "study", action, str(folder / f"{name}.yaml")]
    return [*asked, *settings, "--json", *words]


def by_name(folder):
    """The record of every run, fine-tunings too."""
    found = [json.loads(file.read_text()) for file in (folder / "runs").glob("tiny-*/run.json")]
    return {record["name"]: record for record in found}


def starts(folder):
    """Of every run how often it was started, and whether it is finished."""
    return {name: (len(r["starts"]), r["status"]) for name, r in by_name(folder).items()}


def written(folder):
    """When the other steps' records were."""
    runs = folder / "runs"
    files = [*runs.glob("tiny-*/losses.json"), *runs.glob("evaluate/*/result.json")]
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_killed_and_asked_again_it_repeats_nothing(tmp_path):
    (tmp_path / "tiny.yaml").write_text(STUDY)
    asked = {"env": environment(), "cwd": tmp_path, "text": True}
    first = subprocess.Popen(command(tmp_path), start_new_session=True, **asked)
    deadline = time.monotonic() + 1500

    def under_way():
        """Runs that have a checkpoint to go on from, and do not end before their processes do."""
        return {
            name
            for name, record in by_name(tmp_path).items()
            if record["status"] == "running" and 0 < record["steps"] <= 100
            if "finetune" not in name
        }

    while not (
        any(
            "finetune" in name and status == "finished"
            for name, (_, status) in starts(tmp_path).items()
        )
        and len(written(tmp_path)) >= 2
        and under_way()
    ):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before, records, broken_off = starts(tmp_path), written(tmp_path), under_way()
    over = {name: known for name, known in before.items() if known[1] == "finished"}
    assert over and len(before) < 8

    shown = subprocess.run(command(tmp_path, action="status"), capture_output=True, **asked)
    told = json.loads(shown.stdout)
    assert not told["under_way"] and len(told["cells"]) == 4
    assert not any(cell["status"] == "running" for cell in told["cells"])

    done = subprocess.run(command(tmp_path), capture_output=True, timeout=1500, **asked)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "runs" / "studies" / "tiny"
    result = json.loads(done.stdout)
    assert [row["status"] for row in result["cells"]] == ["finished"] * 4
    after = starts(tmp_path)
    assert len(after) == 8 and all(status == "finished" for _, status in after.values())
    assert {name: after[name] for name in over} == over
    went_on = [by_name(tmp_path)[name]["starts"][1]["step"] for name in broken_off]
    assert max(went_on) > 0  # from its checkpoint, not from the start
    noted = json.loads((place / "study.json").read_text())["seconds"]
    assert any(
        step["seconds"] > step["before"] > 0 for steps in noted.values() for step in steps.values()
    )
    assert {name: written(tmp_path)[name] for name in records} == records

    for row in result["cells"]:
        assert 0.0 < row["val_loss"] < 2.0 and 0.0 < row["train_loss"] < 2.0
        assert 0.0 <= row["top1"] <= 1.0 and 0.0 <= row["knn/top1"] <= 1.0
        assert (tmp_path / "runs" / row["run"] / "figures" / "train_and_val.png").is_file()
    assert {"table.csv", "table.parquet", "table.json"} <= {f.name for f in place.iterdir()}
    assert (place / "report" / "report.md").is_file()

    again = subprocess.run(command(tmp_path), capture_output=True, timeout=300, **asked)
    assert again.returncode == 0 and starts(tmp_path) == after  # without a Ray

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["mimray.kind"] == "study")
    cells = [run for run in runs if run.data.tags["mimray.kind"] == "pretrain"]
    assert len(cells) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}


def test_a_cell_that_fails_leaves_the_others(tmp_path):
    text = STUDY.replace(
        "[vit_nano]", "{good: vit_nano, bad: {model.encoder: vit_nano, optim.lr: 1.0e+30}}"
    )
    text = text.partition("finetune:")[0].replace("lengths: [200, 210]", "lengths: [10]")
    (tmp_path / "tiny.yaml").write_text(text)
    asked = {"env": environment(), "cwd": tmp_path, "text": True, "capture_output": True}
    done = subprocess.run(command(tmp_path), timeout=1500, **asked)
    assert done.returncode == 3, done.stderr
    rows = {(row["model"], row["data"]): row for row in json.loads(done.stdout)["cells"]}
    assert {row["status"] for (model, _), row in rows.items() if model == "good"} == {"finished"}
    bad = [row for (model, _), row in rows.items() if model == "bad"]
    assert {row["status"] for row in bad} == {"failed"} and all(
        "optim.lr" in r["reason"] for r in bad
    )


@pytest.mark.long
def test_several_trainers_are_a_group_of_ray_train(tmp_path):
    text = STUDY.replace("speed.workers: 1\n  speed.cpus_per_worker: 1", "speed.workers: 2")
    text = text.partition("finetune:")[0].replace("lengths: [200, 210]", "lengths: [10]")
    (tmp_path / "tiny.yaml").write_text(text)
    asked = {"env": environment(), "cwd": tmp_path, "text": True, "capture_output": True}
    done = subprocess.run(command(tmp_path), timeout=1500, **asked)
    assert done.returncode == 0, done.stderr
    found = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("tiny-*/run.json")]
    assert [record["starts"][0]["workers"] for record in found] == [2, 2]
