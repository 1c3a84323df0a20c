"""A team's MLflow over PostgreSQL: who gets in, many writers at once, a server that dies, passwords."""

import subprocess
import sys
import time

import pytest

from mimray.cli import main
from mimray.data.files import list_files
from mimray.train.run_folder import RunFolder
from mimray.train.sync import sync
from tests.services.tables import PostgresStore
from tests.services.team import ADMIN, NAME, STORE
from tests.services.training import train
from tests.train.local_ray import REPOSITORY
from tests.train.runs import environment
from tests.train.tracked import assert_whole

pytestmark = pytest.mark.slow

WRITERS, ROWS = 8, 1000
USERS = (("ada", "a canary in the coal mine"), ("bob", "another canary, of another user"))
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"


@pytest.fixture(scope="module")
def users(team):
    """Two people with accounts."""
    for user in USERS:
        team.add_user(*user)
    return USERS


@pytest.fixture
def store(postgres):
    return PostgresStore(postgres)


def log_in(monkeypatch, name, password):
    """As a user does: in the environment, and nowhere else."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


# ----- who gets in --------------------------------------------------------------------------------


def test_nobody_without_a_password_and_nobody_under_another_name(team):
    assert team.answer("GET", SEARCH)[0] == 401
    assert team.answer("GET", SEARCH, user=("admin", "a password that is wrong"))[0] == 401
    assert team.answer("GET", SEARCH, user=ADMIN)[0] == 200
    for path in (SEARCH, "/"):
        status, text = team.answer("GET", path, user=ADMIN, Host="evil.example")
        assert status == 403 and "Invalid Host header" in text
    assert team.answer("POST", "/ajax-api/3.0/jobs/", {})[0] in (401, 403, 404)


def test_its_own_pages_may_ask_and_pages_from_elsewhere_may_not(team):
    """A browser sends where a page is from with every request that may change something."""
    search = "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}, ADMIN
    assert team.answer("POST", *search, Host=NAME, Origin=f"https://{NAME}")[0] == 200
    for origin in ("http://evil.example", f"https://{NAME}.evil.example"):
        status, text = team.answer("POST", *search, Host=NAME, Origin=origin)
        assert (status, text) == (403, "Cross-origin request blocked")


def test_no_secret_stands_in_the_server_s_words_or_log(team):
    with open(f"/proc/{team.process.pid}/cmdline", "rb") as file:
        words = file.read().decode()
    secrets = (ADMIN[1], team.database.environment["PGPASSWORD"], STORE["AWS_SECRET_ACCESS_KEY"])
    for secret in secrets:
        assert secret not in words and secret not in team.said


# ----- many writers -------------------------------------------------------------------------------


def start_writer(folder, uri, user):
    name, password = user
    words = [sys.executable, "-m", "tests.services.writer", str(folder), uri, str(ROWS)]
    return subprocess.Popen(
        words,
        env=environment(MLFLOW_TRACKING_USERNAME=name, MLFLOW_TRACKING_PASSWORD=password),
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(store, uids, least):
    """Until the database has that many rows of every writer."""
    runs = [store.runs(uid)[0][0] for uid in uids]
    until = time.monotonic() + 120
    while any(len(store.metrics(run)["step"]) < least for run in runs):
        assert time.monotonic() < until, "too few rows in two minutes"
        time.sleep(0.1)


@pytest.mark.parametrize("killed", [False, True], ids=["in peace", "killed on the way"])
def test_eight_writers_of_a_thousand_rows_each(killed, team, users, store, tmp_path, monkeypatch):
    folders = [tmp_path / f"writer-{number}-{killed}" for number in range(WRITERS)]
    writers = [start_writer(f, team.uri, users[i % 2]) for i, f in enumerate(folders)]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "ready\n", writer.communicate()
        began = time.monotonic()
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        if killed:
            wait_for_rows(store, [f"uid-of-{folder.name}" for folder in folders], ROWS // 10)
            team.kill()
            time.sleep(2.0)
            team.start()
        said = [writer.communicate(timeout=300)[1] for writer in writers]
        print(f"{WRITERS} writers of {ROWS} rows: {time.monotonic() - began:.1f} s")
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    log_in(monkeypatch, *users[0])
    for folder, writer, lines in zip(folders, writers, said, strict=True):
        run = RunFolder(str(folder))
        assert "Traceback" not in lines
        if not killed:
            assert lines == "" and writer.returncode == 0
        elif writer.returncode:  # the server came back after its last words
            sync(run)
        assert len(run.rows()) == ROWS
        ((run_id, _),) = store.runs(run.record()["uid"])
        counts = {name: len(points) for name, points in store.metrics(run_id).items()}
        assert {counts[name] for name in ("step", "train/loss", "speed/images_per_s")} == {ROWS}
        assert_whole(store, run, "FINISHED")
    assert store._ask("select count(*) from experiments where name = 'mimray'") == [(1,)]


# ----- passwords ----------------------------------------------------------------------------------


def test_a_wrong_password_costs_one_line_and_sync_delivers_later(
    team, server, users, store, tmp_path, monkeypatch, capsys, caplog
):
    log_in(monkeypatch, users[0][0], "a canary that is mistyped")
    monkeypatch.chdir(tmp_path)
    run, _ = train(f"run.storage={tmp_path}/runs", f"run.tracking={team.uri}")
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    (line, last) = [one for one in said if one.startswith("MLflow")]
    assert "MLFLOW_TRACKING_PASSWORD" in line and "mimray runs sync" in last
    record = run.record()
    assert (record["status"], record["mlflow_pending"]) == ("finished", True)

    storage = f"--storage={tmp_path}/runs"
    assert main(["runs", "sync", storage]) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "MLFLOW_TRACKING_PASSWORD" in line
    log_in(monkeypatch, *users[0])
    assert main(["runs", "sync", storage]) == 0
    assert run.record()["mlflow_pending"] is False
    ((run_id, status),) = store.runs(record["uid"])
    assert status == "FINISHED"
    losses = [value for _, _, value in store.metrics(run_id)["train/loss"]]
    assert losses == [row["train/loss"] for row in run.rows()]
    for name, value in STORE.items():  # the server has them, and trainers need none
        monkeypatch.setenv(name, value)
    stored = list_files(f"s3://bucket/mlflow?endpoint_override={server}")[2]
    assert {"recipe.yaml", "loss.png"} <= {file.base_name for file in stored}

    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    written += [file for file in team.folder.rglob("*") if file.is_file()]
    assert len(written) > 8
    assert not [file for file in written if b"canary" in file.read_bytes()]
    assert "canary" not in store.text() + caplog.text + "".join(capsys.readouterr())
