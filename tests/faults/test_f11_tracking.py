"""F11: MLflow is away, fails, is slow or locked, or its answers are lost."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from mimray.train import tracker as tracking
from mimray.train.spool import head_of
from mimray.train.sync import sync
from mimray.train.tracker import Tracker
from tests.faults.mlflow_server import Proxy, free_port, locked, start_server, stop_server
from tests.train.runs import TINY, Finished, environment, start
from tests.train.tracked import Store, assert_whole, make_run, row

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder and port of a server that all tests share."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    server = start_server(folder, port)
    yield folder, port
    stop_server(server)


@pytest.fixture
def store(place) -> Store:
    return Store(place[0] / "mlflow.db")


@pytest.fixture
def proxy(place):
    proxy = Proxy(place[1])
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(tracking, "_RETRY_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "_LAST_WORDS_SECONDS", 4.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture
def run(tmp_path, proxy, request):
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return make_run(tmp_path / name, proxy.uri)


@contextlib.contextmanager
def fault(kind, proxy, store):
    """While it lasts, MLflow misbehaves."""
    with locked(store.file) if kind == "locked" else contextlib.nullcontext():
        if kind != "locked":
            proxy.always(kind)
        yield
    proxy.always("pass")


def train(run, tracker, steps) -> None:
    """A row every 50 ms, none of which waits for MLflow."""
    for step in steps:
        run.append_rows([row(step)])
        began = time.perf_counter()
        tracker.rows([row(step)])
        assert time.perf_counter() - began < 0.04
        time.sleep(0.05)


FAULTS = ["refuse", "error", "hold", "lose", "locked"]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("moment", ["start", "middle", "end"])
def test_every_metric_arrives_once_and_in_order(kind, moment, proxy, store, run, caplog):
    parts = {"start": range(1, 31), "middle": range(31, 61), "end": range(61, 91)}
    tracker = None
    for part, steps in parts.items():
        with fault(kind, proxy, store) if part == moment else contextlib.nullcontext():
            tracker = tracker or Tracker(run, head_of(run, run.record()))
            train(run, tracker, steps)
            if part == "end":
                run.write_record(run.record() | {"status": "failed", "steps": 90})
                delivered = tracker.finish("failed")
    assert "trying on" in caplog.text
    assert delivered == (moment != "end")
    if not delivered:
        sync(run)
    assert_whole(store, run, "FAILED")


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_stumbles_at_random(seed, proxy, store, run):
    generator = random.Random(seed)
    ways = ["pass", "pass", "error", "lose", "refuse"]
    proxy.rule = lambda path: generator.choice(ways)
    tracker = Tracker(run, head_of(run, run.record()))
    train(run, tracker, range(1, 101))
    proxy.always("pass")
    if not tracker.finish("finished"):
        sync(run)
    assert_whole(store, run, "FINISHED")


def test_a_creation_that_comes_late_leaves_no_second_run(proxy, store, run):
    asked = []

    def rule(path):
        creates = path.endswith("runs/create")
        asked.extend([path] * creates)
        return "hold" if creates and len(asked) == 1 else "pass"

    proxy.rule = rule
    tracker = Tracker(run, head_of(run, run.record()))
    train(run, tracker, range(1, 61))
    proxy.always("pass")
    assert len(asked) == 2
    assert len(store.runs(run.record()["uid"])) == 2
    assert tracker.finish("finished")
    assert_whole(store, run, "FINISHED")


def mimray(*words, folder) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mimray.cli", *words],
        env=environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.long
def test_a_real_run_whose_server_is_killed_in_the_middle_and_comes_back_after_the_end(tmp_path):
    port = free_port()
    server = start_server(tmp_path, port)
    length = ("schedule.length=60it", "run.validate_every=30it", "run.checkpoint_every=30it")
    words = [*TINY, *length, f"run.tracking=http://127.0.0.1:{port}"]
    process = start(tmp_path, *words)
    try:
        store = Store(tmp_path / "mlflow.db")
        wait_for_rows(store, process)
        stop_server(server)
        out, err = process.communicate(timeout=180)
        done = Finished(process.returncode, out, err, tmp_path / "runs/run")
        assert done.status == 0, err
        assert "Traceback" not in err and "mimray runs sync" in err
        assert done.record["mlflow_pending"] is True
        ((run_id, status),) = store.runs(done.record["uid"])
        assert status == "RUNNING" and len(store.metrics(run_id)["train/loss"]) < 60

        away = mimray("runs", "sync", folder=tmp_path)
        assert away.returncode == 3
        assert len(away.stderr.strip().splitlines()) == 1, away.stderr

        server = start_server(tmp_path, port)
        synced = mimray("runs", "sync", "--json", folder=tmp_path)
        assert synced.returncode == 0, synced.stderr
        (delivered,) = json.loads(synced.stdout)["synced"]
        assert delivered["status"] == "finished" and 0 < delivered["rows"] < 60
        assert store.runs(done.record["uid"]) == [(run_id, "FINISHED")]
        points = store.metrics(run_id)["train/loss"]
        assert [step for step, _, _ in points] == [row["images"] for row in done.rows]
        assert [value for _, _, value in points] == [row["train/loss"] for row in done.rows]
        figures = tmp_path / "mlartifacts"
        assert {file.name for file in figures.rglob("figures/*")} >= {"loss.png"}
        assert done.record["mlflow_pending"] is False
        assert "lacks nothing" in mimray("runs", "sync", folder=tmp_path).stdout
    finally:
        stop_server(server)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def test_a_run_whose_driver_was_killed_is_killed_in_mlflow_too(tmp_path):
    process = start(tmp_path, *TINY, "schedule.length=1000it")
    try:
        store = Store(tmp_path / "mlflow.db")
        wait_for_rows(store, process)
        alive = mimray("runs", "sync", folder=tmp_path)
        assert alive.returncode == 0 and "is being trained by process" in alive.stdout
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    record = json.loads((tmp_path / "runs/run/run.json").read_text())
    ((run_id, status),) = store.runs(record["uid"])
    assert status == "RUNNING"
    assert mimray("runs", "sync", folder=tmp_path).returncode == 0
    assert store.runs(record["uid"]) == [(run_id, "KILLED")]


def wait_for_rows(store, process) -> None:
    """Until MLflow has some rows of the one run."""
    import sqlite3

    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        with contextlib.suppress(sqlite3.OperationalError):
            if store._ask("select count(*) from metrics where key = 'train/loss'")[0][0] >= 3:
                return
        time.sleep(0.2)
    raise AssertionError("no rows in MLflow in two minutes")
