"""Runs, checkpoints and pictures in an object store: a server of the S3 protocol on loopback."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mimray.cli import main
from mimray.data.files import join, read_bytes, resolve
from mimray.errors import UserError
from mimray.train.run_folder import RunFolder
from tests.faults.harness import family
from tests.services.training import train
from tests.train.finetuning import finetune
from tests.train.local_ray import REPOSITORY
from tests.train.runs import TINY, command, environment

pytestmark = pytest.mark.slow
SECRET = "a canary that opens the store"
PHOTOS = REPOSITORY / "mimray/photos"


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    """In the environment, and nowhere else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def place(server, tmp_path):
    """URI of a folder of this test's own in the bucket."""

    def place(*parts):
        return join(f"s3://bucket/{tmp_path.name}?endpoint_override={server}", *parts)

    return place


def start(*settings):
    """The same training in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.services.training", *settings],
        env=environment(),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(run, step=8):
    return run.read(f"checkpoints/step-{step:08d}/model.safetensors")


def record_of(run: RunFolder) -> dict:
    """The record, waited for where it is half there: this server, unlike a store, writes in pieces."""
    until = time.monotonic() + 20
    while True:
        try:
            return run.record() or {}
        except UserError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_run_that_is_killed_goes_on_from_its_checkpoint_in_the_store(place):
    storage = f"run.storage={place('runs')}"
    expected, record = train(storage, "run.name=undisturbed")
    assert not expected.local and record["status"] == "finished"
    name = "run.name=killed"
    killed = RunFolder(join(place("runs"), "killed"))
    process = start(storage, name)
    try:
        until = time.monotonic() + 240
        while record_of(killed).get("steps", 0) < 4:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    before = record_of(killed)
    assert before["status"] == "running" and 4 <= before["steps"] < 8
    _, record = train(storage, name)
    assert record["status"] == "finished" and len(record["starts"]) == 2
    assert record["starts"][1]["step"] >= 4
    assert [row["step"] for row in killed.rows()] == list(range(1, 9))
    assert weights(killed) == weights(expected)


def test_trainers_of_a_ray_write_to_the_store_and_go_on_from_it(place, tmp_path):
    words = command(tmp_path, *TINY, f"run.storage={place('runs')}")
    run = RunFolder(join(place("runs"), "run"))
    process = subprocess.Popen(
        words, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        until = time.monotonic() + 400
        while record_of(run).get("steps", 0) < 4:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    done = subprocess.run(words, env=environment(), cwd=tmp_path, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr
    record = run.record()
    assert record["status"] == "finished" and record["starts"][-1]["step"] >= 4
    assert [row["step"] for row in run.rows()] == list(range(1, 13))
    assert not (tmp_path / "runs").exists()


def test_a_run_in_the_store_is_the_same_as_one_on_disk(place, tmp_path):
    """The pictures are from the store too, and the run is found there by every verb that looks for runs."""
    for part in ("train", "val"):
        store, path = resolve(place("photos"))
        for file in PHOTOS.glob(f"{part}*.parquet"):
            with store.open_output_stream(f"{path}/{file.name}") as stream:
                stream.write(file.read_bytes())
    data = [f"data.{part}={place('photos', part + '*.parquet')}" for part in ("train", "val")]
    remote, _ = train(*data, f"run.storage={place('runs')}", "run.name=run")
    local, _ = train(f"run.storage={tmp_path}", "run.name=run")
    assert weights(remote) == weights(local)


def test_verbs_find_a_run_in_the_store_and_no_secret_is_written(place, capsys):
    storage = place("runs")
    run, record = train(f"run.storage={storage}", "run.name=run")
    assert main(["runs", "ls", "--json", "--storage", storage]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert (listed["name"], listed["status"]) == ("run", "finished")
    assert main(["runs", "show", "run", "--storage", storage]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["uid"] == record["uid"]
    files = run.filesystem.get_file_info(run_files(run))
    contents = [read_bytes(run.filesystem, file.path) for file in files if file.is_file]
    assert len(contents) > 8
    assert not any(SECRET.encode() in data for data in contents)
    assert SECRET not in shown


def test_a_fine_tuning_starts_from_a_run_in_the_store_as_from_one_on_disk(place, tmp_path):
    small = [
        "model.encoder=vit_nano",
        "model.image_size=32",
        "model.window=null",
        "head.kind=linear",
    ]
    stored, _ = train(*small, f"run.storage={place('runs')}", "run.name=run")
    local, _ = train(*small, f"run.storage={tmp_path}/runs", "run.name=run")
    there, found = finetune(tmp_path, f"model.weights={stored.uri}", name="there")
    here, expected = finetune(tmp_path, f"model.weights={local.uri}", name="here")
    assert there["weights_at"] == join(stored.uri, "checkpoints", "step-00000008")
    assert [*there["files"].values()] == [*here["files"].values()]
    losses = [[row["train/loss"] for row in rows] for rows in (found, expected)]
    assert losses[0] == losses[1]


def run_files(run):
    from pyarrow import fs

    return fs.FileSelector(run.path, recursive=True)


def test_a_secret_in_an_address_is_refused_and_not_repeated(capsys):
    for words in (
        "run.storage=s3://key:canary@bucket/runs",
        "data.train=s3://key:canary@bucket/photos",
        "run.tracking=http://user:canary@mlflow.example",
        "run.tracking=postgresql+psycopg://mlflow:canary@db/mlflow",
    ):
        assert main(["pretrain", "demo", words]) == 2
        said = "".join(capsys.readouterr())
        assert "password" in said or "credentials" in said
        assert "canary" not in said
