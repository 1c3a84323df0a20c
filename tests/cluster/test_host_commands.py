"""What `ray up` has the hosts do, done in a home of its own with stand-ins for make and ray."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.clusters import CLOUDS, REPOSITORY, read

pytestmark = pytest.mark.unit


SEEN = (
    "OMP_NUM_THREADS",
    "RAY_AUTH_MODE",
    "SSH_CLIENT",
    "RAY_health_check_failure_threshold",
    "RAY_health_check_timeout_ms",
    "RAY_JOB_STOP_WAIT_TIME_S",
)


class Host:
    """A home with the files that `ray up` pushes, and programs that only note how they were called."""

    def __init__(self, home: Path) -> None:
        self.home, self.notes = home, home / "notes"
        self.project = home / "mimray"
        (self.project / ".venv/bin").mkdir(parents=True)
        (self.project / "requirements.lock").write_text("ray==2.60.0\n")
        (home / ".ray").mkdir(mode=0o755)
        (home / ".ray/auth_token").write_text("secret")
        (home / "bin").mkdir()
        said = "".join(f" {name}=${{{name}-}}" for name in SEEN)
        for program in (home / "bin/make", home / "bin/uv", self.project / ".venv/bin/ray"):
            program.write_text(f'#!/bin/sh\necho "{program.name} $*" "{said}" >> {self.notes}\n')
            program.chmod(0o755)

    def run(self, commands: list[str], **env: str) -> list[str]:
        """As `ray up` does, one after another in shells of their own; what the programs noted."""
        self.notes.write_text("")
        path = f"{self.home}/bin:{os.environ['PATH']}"
        around = {"HOME": str(self.home), "PATH": path, "OMP_NUM_THREADS": "1"}
        for command in commands:
            subprocess.run(["bash", "-c", command], env=around | env, check=True)
        return self.notes.read_text().splitlines()


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(tmp_path)


SETUP = read("cluster.yaml")["setup_commands"]


def test_nothing_is_set_up_where_the_environment_is_that_of_the_lock(host):
    (host.project / ".venv/ready").write_text("ray==2.60.0\n")
    os.utime(host.project / ".venv/ready", (1, 1))  # older than the lock that was pushed
    assert host.run(SETUP) == []


@pytest.mark.parametrize("ready", [None, "", "ray==2.59.0\n"])
def test_another_lock_or_none_is_set_up(host, ready):
    if ready is not None:
        (host.project / ".venv/ready").write_text(ready)
    (note,) = host.run(SETUP)
    assert note.startswith("make --silent setup")


@pytest.mark.parametrize("age", [-100, 0, 100])
def test_another_lock_is_installed_however_old_it_is(host, age):
    """By the Makefile's own rules, which compare times: rsync keeps that of the lock."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, host.project)
        os.utime(host.project / name, (1, 1))
    make = shutil.which("make")
    (host.home / "bin/make").write_text(f'#!/bin/sh\n{make} --just-print "$@" >> {host.notes}\n')
    ready, lock = host.project / ".venv/ready", host.project / "requirements.lock"
    ready.write_text("ray==2.59.0\n")
    os.utime(lock, (ready.stat().st_mtime + age,) * 2)
    assert any("install" in note and "-r requirements.lock" in note for note in host.run(SETUP))
    shutil.copy(lock, ready)
    assert host.run(SETUP) == []


def test_the_token_is_its_owners_alone(host):
    host.run(SETUP)
    modes = [(host.home / name).stat().st_mode & 0o777 for name in (".ray", ".ray/auth_token")]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_every_ray_asks_for_the_token_and_leaves_threads_to_the_trainers(host, kind):
    commands = read("cluster.yaml")[f"{kind}_start_ray_commands"]
    seen = {"SSH_CONNECTION": "10.0.0.9 4000 10.0.0.7 22", "RAY_HEAD_IP": "10.0.0.7"}
    stopped, started = host.run(commands, SSH_CLIENT="10.0.0.9 4000 22", **seen)
    assert stopped.startswith("ray stop")
    assert " RAY_AUTH_MODE=token " in started
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in started  # a job's driver may sit on any host
    assert " OMP_NUM_THREADS= " in started and " SSH_CLIENT= " in started
    assert " --node-ip-address=10.0.0.7" in started  # that ssh has used


def test_the_head_stays_on_loopback_and_gives_a_stopped_job_time_for_a_checkpoint(host):
    commands = read("cluster.yaml")["head_start_ray_commands"]
    started = host.run(commands, SSH_CONNECTION="10.0.0.9 4000 10.0.0.7 22")[-1]
    assert "--dashboard-host=127.0.0.1" in started
    assert "RAY_health_check_failure_threshold=3 " in started
    assert "RAY_health_check_timeout_ms=5000 " in started
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in started


def test_the_head_on_google_gets_the_autoscalers_client_once(host):
    python = host.project / ".venv/bin/python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    commands = read("cluster/gcp.yaml")["head_setup_commands"]
    (note,) = host.run(commands)
    assert note.startswith(
        "uv pip install --quiet --python .venv/bin/python google-api-python-client=="
    )
    python.write_text("#!/bin/sh\n")
    assert host.run(commands) == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_host_that_has_make_and_venv_installs_nothing(host, cloud):
    sudo = host.home / "bin/sudo"
    sudo.write_text(f'#!/bin/sh\necho "sudo $*" >> {host.notes}\n')
    sudo.chmod(0o755)
    assert host.run(read(cloud)["initialization_commands"]) == []
    (host.home / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    (host.home / "bin/python3").chmod(0o755)
    assert len(host.run(read(cloud)["initialization_commands"])) == 2
