"""Where a run's files lie by default, in a folder of one's own and in a job of Ray's."""

from pathlib import Path

import pytest

from mimray.recipe import load_recipe
from mimray.train.run_folder import RunFolder

pytestmark = pytest.mark.unit


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("MIMRAY_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def folder(*overrides: str) -> str:
    return RunFolder.of(load_recipe("demo", ["run.name=a", *overrides])).path


@pytest.mark.parametrize("overrides", [(), ("run.storage=runs",)])
def test_runs_lie_in_the_current_folder(home, monkeypatch, overrides):
    monkeypatch.chdir(home)
    assert folder(*overrides) == f"{home}/runs/a"


@pytest.mark.parametrize("overrides", [(), ("run.storage=runs",)])
def test_a_job_writes_nothing_where_ray_deletes(home, monkeypatch, overrides):
    upload = home / "session/runtime_resources/working_dir_files/_ray_pkg_1"
    upload.mkdir(parents=True)
    monkeypatch.chdir(upload)
    assert folder(*overrides) == f"{home}/mimray/runs/a"


def test_a_place_that_was_named_is_taken(home, monkeypatch):
    monkeypatch.setenv("MIMRAY_HOME", f"{home}/elsewhere")
    monkeypatch.chdir(home)
    assert folder() == f"{home}/elsewhere/runs/a"
    assert folder("run.storage=~/mine") == f"{home}/mine/a"
    assert folder("run.storage=/data") == "/data/a"
