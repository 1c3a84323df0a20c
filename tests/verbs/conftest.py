"""What the tests of `mimray cluster` share."""

import os

import pytest

from mimray.verbs.cluster import commands, file, following, hosts, tunnel
from tests.verbs.stand_in import REPOSITORY, Fake


@pytest.fixture
def ray(tmp_path, monkeypatch):
    """Ray's stand-in, seen from the project's folder."""
    fake = Fake(tmp_path)
    monkeypatch.chdir(REPOSITORY)  # where one submits from
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(commands, "program", lambda: str(fake.program))
    monkeypatch.setattr(tunnel, "program", lambda: str(fake.program))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(file, "_EXAMPLES", "none")  # the file's hosts are ours
    for module in (hosts, following):
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(tunnel, "_WAIT_SECONDS", 0.05)
    return fake
