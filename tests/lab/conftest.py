"""Three hosts and a Ray on them by `mimray cluster up`, for all tests on hosts: it takes a minute."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import edited, install, mimray
from tests.lab.machines import Machines, missing
from tests.lab.under_way import HOSTS
from tests.train.local_ray import BIN, Cluster, free_ports, wait_for_jobs
from tests.train.runs import environment


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What ends the cluster comes last, however the files are named or asked for."""
    items.sort(key=lambda item: item.path == Path(__file__).with_name("test_teardown.py"))


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    """A folder that all hosts see: neither in /tmp nor in a home."""
    path = Path(tempfile.mkdtemp(prefix="mimray-lab-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="package")
def machines(folder) -> Iterator[Machines]:
    """h1, the head, h2 and h3; gone afterwards with everything that runs on them."""
    if reason := missing():
        pytest.skip(reason)
    found = Machines(folder / "machines", 3)
    try:
        found.up()
        yield found
    finally:
        found.down()


@pytest.fixture(scope="package")
def file(machines, folder) -> str:
    """The cluster's file, and the hosts prepared for it."""
    for name in machines.names:
        install(machines.home(name) / "mimray")
    path = folder / "cluster.yaml"
    path.write_text(edited(machines))
    return str(path)


@pytest.fixture(scope="package")
def operator(folder) -> dict[str, str]:
    """The environment of who runs the cluster: a home of his own, without a token."""
    (folder / "home").mkdir()
    return environment(HOME=f"{folder}/home", RAY_TMPDIR=f"{folder}/ray")


@pytest.fixture(scope="package")
def up_seconds(file, operator) -> float:
    """That `mimray cluster up` took for all hosts."""
    began = time.monotonic()
    up = mimray(operator, "cluster", "up", file)
    assert up.returncode == 0, up.stderr[-5000:]
    seconds = time.monotonic() - began
    print(f"\n`mimray cluster up` of {len(HOSTS)} hosts: {seconds:.0f} s")
    return seconds


@pytest.fixture(scope="package")
def cluster(up_seconds, file, operator, folder) -> Iterator[Cluster]:
    """The cluster, with all hosts, and a tunnel to its job server."""
    (port,) = free_ports(1)
    env = operator | {
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}",
    }
    token = (folder / "home/.ray/auth_token").read_text().strip()
    log = folder / "tunnel.log"
    tunnel = subprocess.Popen(
        [str(BIN / "ray"), "dashboard", "--port", str(port), file],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        started = Cluster(env["RAY_API_SERVER_ADDRESS"], token, env)
        wait_for_jobs(started, tunnel, log)
        yield started
    finally:
        os.killpg(tunnel.pid, signal.SIGKILL)
        tunnel.wait()
