"""`ray up` with the project's cluster.yaml on two hosts, and a pre-training with a trainer on each.

The hosts are network namespaces with an address, home, /tmp and ssh server each. They reach no
package registry, so this checkout's packages are put where `make setup` would install them.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.train.local_ray import BIN, REPOSITORY, Cluster, free_ports, wait_for_jobs
from tests.train.runs import TINY, Finished, environment

LAB = REPOSITORY.parent / "shared" / "lab" / "lab"
HEAD, WORKER = "10.77.0.1", "10.77.0.2"
EDITS = {
    "head_ip: 10.0.0.1 ": f"head_ip: {HEAD} ",
    "worker_ips: [10.0.0.2]": f"worker_ips: [{WORKER}]",
    "ssh_user: mimray": "ssh_user: root",
}


def missing() -> str | None:
    """Why no hosts can be had here."""
    if os.geteuid():
        return "needs root"
    if not LAB.exists():
        return f"needs {LAB}"
    path = f"{os.environ['PATH']}:/usr/sbin"
    tools = ("ip", "sshd", "ssh", "rsync", "unshare")
    lacking = [tool for tool in tools if not shutil.which(tool, path=path)]
    if lacking:
        return f"needs {', '.join(lacking)}"
    return "somebody else's hosts are up" if Path("/sys/class/net/labbr0").exists() else None


REASON = missing()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that all hosts see: neither in /tmp nor in a home."""
    path = Path(tempfile.mkdtemp(prefix="mimray-lab-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def lab(folder) -> Iterator[Callable[..., str]]:
    """Two hosts, h1 and h2; gone afterwards with everything that runs on them."""

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


@pytest.fixture(scope="module")
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


def install(project: Path) -> None:
    """Leave what `make setup` leaves, by links to this checkout's packages."""
    for name in (".venv", ".uv/bin"):
        (project / name).mkdir(parents=True)
    for entry in BIN.parent.iterdir():
        if entry.name != "ready":
            (project / ".venv" / entry.name).symlink_to(entry)
    for name in (".venv/ready", ".uv/bin/uv"):
        (project / name).touch()


def edited(edits: dict[str, str]) -> str:
    """The project's cluster.yaml with its three places filled in."""
    text = (REPOSITORY / "cluster.yaml").read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def ray(env: dict[str, str], *words: str) -> str:
    """One of Ray's own commands, from the project's folder."""
    done = subprocess.run(
        [str(BIN / "ray"), *words],
        env=env,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def wait_for_hosts(cluster: Cluster, count: int, seconds: float = 90) -> None:
    """Until that many hosts have joined."""
    deadline = time.monotonic() + seconds
    alive: list[str] = []
    while time.monotonic() < deadline:
        status, answer = cluster.http("/api/v0/nodes", cluster.token)
        assert status == 200
        nodes = answer["data"]["result"]["result"]
        alive = [node["node_ip"] for node in nodes if node["state"] == "ALIVE"]
        if len(alive) == count:
            return
        time.sleep(0.5)
    raise AssertionError(f"after {seconds} s only {alive} have joined")


def test_the_job_server_is_reached_by_the_tunnel_only(cluster):
    with socket.socket() as knock:
        knock.settimeout(5)
        assert knock.connect_ex((HEAD, 8265)) != 0
    assert cluster.http("/api/jobs/")[0] == 401


def test_storage_of_one_host_is_refused(cluster):
    job = cluster.submit("demo", *TINY, "run.storage=/tmp/runs", "run.tracking=off")
    assert (job.info["status"], job.info["driver_exit_code"]) == ("FAILED", 2)
    assert "mimray: host h2: does not see run.storage (/tmp/runs/" in job.said


def test_two_trainers_train_on_two_hosts(cluster, folder):
    job = cluster.submit(
        *("demo", *TINY, "schedule.length=4it", "schedule.warmup=1it", "speed.workers=2"),
        *(f"run.storage={folder}/runs", "run.name=two"),
        f"run.tracking=sqlite:///{folder}/mlflow.db",
    )
    assert (job.info["status"], job.info["driver_exit_code"]) == ("SUCCEEDED", 0), job.said
    run = Finished(job.status, job.said, "", folder / "runs" / "two")
    assert run.record["status"] == "finished"
    assert [sorted(start["hosts"]) for start in run.record["starts"]] == [["h1", "h2"]]
    assert [row["step"] for row in run.rows] == [1, 2, 3, 4]
