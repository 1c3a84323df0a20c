"""Two hosts and a Ray on them by `ray up`, for all tests on hosts: it takes a minute."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import EDITS, LAB, edited, install, missing, ray, wait_for_hosts
from tests.train.local_ray import BIN, Cluster, free_ports, wait_for_jobs
from tests.train.runs import environment


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    """A folder that all hosts see: neither in /tmp nor in a home."""
    path = Path(tempfile.mkdtemp(prefix="mimray-lab-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="package")
def lab(folder) -> Iterator[Callable[..., str]]:
    """Two hosts, h1 and h2; gone afterwards with everything that runs on them."""
    if reason := missing():
        pytest.skip(reason)

    def lab(*words: str) -> str:
        env = environment(LAB_STATE=f"{folder}/lab")
        done = subprocess.run(
            [str(LAB), *words], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        lab("up", "2")
        yield lab
    finally:
        lab("down")


@pytest.fixture(scope="package")
def cluster(lab, folder) -> Iterator[Cluster]:
    """`ray up`, and a tunnel to the head's job server, by the commands of docs/cluster.md."""
    for host in ("h1", "h2"):
        install(folder / "lab" / "home" / host / "mimray")
    config = folder / "cluster.yaml"
    config.write_text(edited(EDITS | {"~/.ssh/id_ed25519": lab("key")}))
    (folder / "home").mkdir()
    (port,) = free_ports(1)
    env = environment(
        HOME=f"{folder}/home",
        RAY_TMPDIR=f"{folder}/ray",
        RAY_AUTH_MODE="token",
        RAY_UP_enable_autoscaler_v2="0",
        RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{port}",
    )
    ray(env, "get-auth-token", "--generate")
    ray(env, "up", "-y", str(config))
    token = (folder / "home/.ray/auth_token").read_text().strip()
    log = folder / "tunnel.log"
    tunnel = subprocess.Popen(
        [str(BIN / "ray"), "dashboard", "--port", str(port), str(config)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        started = Cluster(env["RAY_API_SERVER_ADDRESS"], token, env)
        wait_for_jobs(started, tunnel, log)
        wait_for_hosts(started, 2)
        yield started
    finally:
        os.killpg(tunnel.pid, signal.SIGKILL)
        tunnel.wait()
