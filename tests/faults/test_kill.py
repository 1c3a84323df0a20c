"""Runs that are ended by force or on request, and go on by the same command."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.train.runs import Finished, command, environment, pretrain

pytestmark = pytest.mark.faults

SETTINGS = [
    *("schedule.length=40it", "schedule.warmup=4it", "speed.workers=2", "model.drop_path=0.1"),
    *("run.validate_every=20it", "run.checkpoint_every=7it", "run.log_every=1it"),
]


def start(folder: Path) -> subprocess.Popen:
    """The run in the background, in a process group of its own."""
    return subprocess.Popen(
        command(folder, *SETTINGS),
        env=environment(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    """Until a checkpoint of at least that step stands."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(OSError, ValueError):
            if json.loads((folder / "runs/run/run.json").read_text())["steps"] >= step:
                return
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of step {step} in three minutes")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Finished:
    done = pretrain(tmp_path_factory.mktemp("undisturbed"), *SETTINGS)
    assert done.status == 0, done.err
    return done


def same_end(one: Finished, other: Finished) -> bool:
    """Whether two runs ended with the same weights, bit by bit."""
    ours, theirs = (
        load_file(run.folder / "checkpoints/step-00000040/model.safetensors")
        for run in (one, other)
    )
    return ours.keys() == theirs.keys() and all((ours[k] == theirs[k]).all() for k in ours)


def test_sigkill_of_the_whole_tree_loses_at_most_an_interval(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_step(tmp_path, 14, process)
    for pid in family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    assert json.loads((tmp_path / "runs/run/run.json").read_text())["status"] == "running"

    done = pretrain(tmp_path, *SETTINGS)
    assert done.status == 0, done.err
    starts = [s["step"] for s in done.record["starts"]]
    assert starts[0] == 0
    assert starts[1] >= 14
    assert [row["step"] for row in done.rows] == list(range(1, 41))
    assert {row["attempt"] for row in done.rows} == {0, 1}
    assert done.record["steps"] == 40
    assert same_end(done, undisturbed)


def test_sigterm_leaves_a_checkpoint_and_exit_75(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_step(tmp_path, 7, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    record = json.loads((tmp_path / "runs/run/run.json").read_text())
    assert record["status"] == "stopped"
    assert record["checkpoint"] == f"checkpoints/step-{record['steps']:08d}"

    done = pretrain(tmp_path, *SETTINGS)
    assert done.status == 0, done.err
    assert done.record["starts"][1]["step"] == record["steps"]
    assert [row["step"] for row in done.rows] == list(range(1, 41))
    assert same_end(done, undisturbed)


def test_a_killed_trainer_is_started_again_within_the_run(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_step(tmp_path, 14, process)
    trainers = [p for p in family(process.pid) if b"RayTrainWorker" in _cmdline(p)]
    assert len(trainers) == 2
    os.kill(trainers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    done = Finished(0, out, err, tmp_path / "runs/run")
    assert len(done.record["starts"]) == 2
    assert [row["step"] for row in done.rows] == list(range(1, 41))
    assert same_end(done, undisturbed)


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_second_start_of_a_running_run_is_refused(tmp_path):
    process = start(tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "runs/run/fence/00000001.token").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        second = pretrain(tmp_path, *SETTINGS, timeout=60)
        assert second.status == 2
        assert f"being trained by process {process.pid}" in second.err
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
