"""`mimray cluster up` and `status`, also of a cluster that is up or mute already; Ray is a stand-in."""

import json
from unittest.mock import Mock

import pytest

from mimray.cli import main
from mimray.verbs.cluster import tunnel
from mimray.verbs.cluster.tunnel import JobServer
from tests.verbs.stand_in import FILE, HEAD, LOG, REPOSITORY, WORKER, Fake

pytestmark = pytest.mark.unit
ENDED = {"submission_id": "old", "status": "STOPPED"}


def not_up(ray: Fake) -> None:
    """There is no head until `ray up`."""
    began, *rest = ray.program.read_text().splitlines()
    away = f"""[ "$1" != dashboard ] || grep -q '"up"' {ray.folder}/calls || exit 1"""
    (ray.folder / "calls").touch()
    ray.program.write_text("\n".join([began, away, *rest]))


def jobs(ray: Fake, *found: dict) -> None:
    (ray.folder / "jobs").write_text(json.dumps(dict(enumerate(found))))


def test_up_of_a_cluster_that_is_not_there(ray):
    not_up(ray)
    assert main(["cluster", "up", FILE]) == 0
    assert [words[0] for words, _ in ray.calls()] == ["up", "dashboard"]


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"submission_id": "mimray-1", "status": "RUNNING"}, "mimray-1"),
        ({"submission_id": "mimray-2", "status": "PENDING"}, "mimray-2"),
        ({"submission_id": None, "job_id": "01000000", "status": "RUNNING"}, "driver 01000000"),
    ],
)
def test_up_kills_no_job(ray, capsys, job, name):
    jobs(ray, job, ENDED)
    assert main(["cluster", "up", FILE]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f": {name} would be killed" in last and f"`mimray cluster down {FILE}` first" in last
    assert not ray.calls("up")


def test_up_of_a_cluster_where_nothing_runs(ray):
    jobs(ray, ENDED)
    assert main(["cluster", "up", FILE]) == 0
    assert len(ray.calls("up")) == 1


def test_up_of_a_cluster_that_does_not_tell_its_jobs(ray, capsys, monkeypatch):
    monkeypatch.setattr(JobServer, "running", Mock(side_effect=TimeoutError("timed out")))
    assert main(["cluster", "up", FILE]) == 3
    assert "does not say whether jobs run" in capsys.readouterr().err
    assert not ray.calls("up")


@pytest.mark.parametrize("action", ["up", "down"])
def test_a_cluster_with_another_token_is_left_alone(ray, capsys, action):
    (ray.folder / ".ray/auth_token").write_text("other")
    assert main(["cluster", action, FILE]) == 2
    assert "another token than ~/.ray/auth_token" in capsys.readouterr().err
    assert {words[0] for words, _ in ray.calls()} == {"dashboard"}


def test_down_of_a_cluster_that_does_not_answer_ends_what_is_left(ray, capsys):
    not_up(ray)
    assert main(["cluster", "down", FILE]) == 0
    assert "no job is stopped, for their server is not reached" in capsys.readouterr().err
    assert len(ray.calls("exec")) == len(ray.calls("down")) == 1


def test_up_makes_the_token_and_waits_for_all_hosts(ray, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (ray.folder / ".ray/auth_token").unlink()
    ray.hosts(HEAD)
    ray.plan(joins=WORKER)
    assert main(["cluster", "up", FILE]) == 0
    ((words, known),) = ray.calls("up")
    assert words == ["up", "-y", FILE]
    assert known == {"RAY_AUTH_MODE": "token", "RAY_UP_enable_autoscaler_v2": "0"}
    said = capsys.readouterr()
    assert f"1 of 2 hosts have joined, missing {WORKER}" in said.err
    assert f"$ RAY_AUTH_MODE=token RAY_UP_enable_autoscaler_v2=0 ray up -y {FILE}" in said.err
    assert WORKER in said.out and "2 CPU" in said.out


def test_up_names_the_host_that_failed_and_why(ray, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    ray.hosts(HEAD)
    ray.plan(monitor=LOG)
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"missing {WORKER}; the head keeps trying, and its log says: " in last
    assert last.endswith(
        "ssh: connect to host 192.0.2.2 port 22: Connection refused | NodeUpdater: 192.0.2.2: Start "
        "failed [LogTimer=975ms] | New status: update-failed"
    )


def test_up_says_which_python_a_host_has(ray, capsys):
    """Ray lets no host join whose Python is not the head's to the last number."""
    ray.hosts(HEAD)
    mismatch = f"""RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node {WORKER} was started with:
    Ray: 2.60.0
    Python: 3.12.3
New status: update-failed
"""
    ray.plan(monitor=3 * mismatch)
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        f"Python: 3.11.7 | This process on node {WORKER} was started with: | Python: 3.12.3" in last
    )


def test_up_elsewhere_than_in_the_projects_folder(ray, capsys, monkeypatch):
    monkeypatch.chdir(ray.folder)
    assert main(["cluster", "up", FILE]) == 2
    assert "run this in the project's folder" in capsys.readouterr().err
    assert not ray.calls("up") if (ray.folder / "calls").exists() else True


def test_status_names_who_is_missing(ray, capsys):
    ray.hosts(HEAD)
    ray.plan(monitor=f"{WORKER}: permission denied")
    assert main(["cluster", "status", FILE, "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["hosts"] == [{"address": HEAD, "CPU": 2.0}]
    assert (result["missing"], result["reasons"]) == ([WORKER], [f"{WORKER}: permission denied"])
    ray.hosts(HEAD, "172.16.0.9")  # known to Ray by another address
    assert main(["cluster", "status", FILE]) == 0


@pytest.mark.parametrize("how", ["after", "within"])
def test_up_and_status_over_a_tunnel_that_breaks(ray, capsys, how):
    ray.plan(breaks=[how, how], breaks_at="nodes")
    assert main(["cluster", "up", FILE]) == 0
    if how == "within":
        assert "the job server does not answer; opening another tunnel" in capsys.readouterr().err
    (ray.folder / "broken").unlink()
    ray.plan(breaks=["within"], breaks_at="nodes")
    assert main(["cluster", "status", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"mimray: {FILE}: the job server was reached, and does not answer any more ("
    )


def test_up_of_hosts_that_nobody_tells_comes_to_an_end(ray, capsys, monkeypatch):
    monkeypatch.setattr(tunnel, "_BROKEN", 3)
    ray.plan(mute_at="nodes")
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "does not say which hosts have joined (HTTP Error 500" in last
    assert last.endswith(f"`mimray cluster status {FILE}` asks again")


def test_up_asks_for_the_clusters_own_key(ray, capsys):
    (ray.folder / ".ssh/mimray").unlink()
    assert main(["cluster", "up", FILE]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "`ssh-keygen -t ed25519 -N '' -f ~/.ssh/mimray`" in last
    assert "`ssh-copy-id -i ~/.ssh/mimray mimray@HOST`, for every host" in last
    assert not (ray.folder / "calls").exists()
