"""`mimray cluster up` and `down` of a cluster that is up already, or answers no more; Ray is a stand-in."""

import json
from unittest.mock import Mock

import pytest

from mimray.cli import main
from mimray.verbs.cluster.tunnel import JobServer
from tests.verbs.test_cluster import FILE, REPOSITORY, Fake, ray

__all__ = ["ray"]
pytestmark = pytest.mark.unit
ENDED = {"submission_id": "old", "status": "STOPPED"}


@pytest.fixture(autouse=True)
def project(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


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
