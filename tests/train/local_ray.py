"""A Ray head of the tests' own: loopback, free ports, a private home with the cluster's token."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.train.runs import environment

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_OF_THE_TESTS = ("RAY_API_SERVER_ADDRESS", "RAY_TEST_GCS", "RAY_TEST_METRICS")


@dataclass
class Cluster:
    """Where jobs are submitted: the job server's address, and an environment that has the token."""

    address: str
    token: str
    env: dict[str, str]

    def http(
        self, path: str, token: str | None = None, body: dict | None = None
    ) -> tuple[int, dict]:
        """Status and JSON of one request to the job server."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data)
        request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, {}

    def submit(self, *words: str, options: tuple[str, ...] = (), timeout: float = 240) -> Job:
        """`ray job submit --working-dir REPOSITORY -- python jobs/pretrain.py WORDS`, to its end."""
        name = f"test-{secrets.token_hex(4)}"
        done = subprocess.run(
            [
                *(str(BIN / "ray"), "job", "submit", "--submission-id", name, *options),
                *("--working-dir", str(REPOSITORY), "--", "python", "jobs/pretrain.py", *words),
            ],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return Job(name, done.returncode, done.stdout, self.info(name))

    def info(self, name: str) -> dict:
        """What Ray knows of a job: `status`, `driver_exit_code`, ..."""
        return self.http(f"/api/jobs/{name}", self.token)[1]


@dataclass
class Job:
    """A submitted job that has ended: what `ray job submit` said and what Ray recorded."""

    name: str
    status: int
    said: str
    info: dict


@dataclass
class Node:
    """Another host of the cluster, as far as Ray can tell: a raylet of its own."""

    mark: str
    log: Path

    def kill(self) -> None:
        """SIGKILL for everything that runs there."""
        for pid in processes_with("MIMRAY_TEST_NODE", self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def join(cluster: Cluster, cpus: int) -> Node:
    """Start one more raylet for a cluster of this machine, and wait until it has joined."""
    node = Node(secrets.token_hex(8), Path(cluster.env["HOME"]) / f"{secrets.token_hex(4)}.log")
    before = len(alive(cluster))
    subprocess.Popen(
        [
            *(str(BIN / "ray"), "start", "--block", "--disable-usage-stats"),
            *(f"--address={cluster.env['RAY_TEST_GCS']}", f"--num-cpus={cpus}"),
            *("--node-ip-address=127.0.0.1", "--object-store-memory=200000000"),
        ],
        env=cluster.env | {"MIMRAY_TEST_NODE": node.mark},
        stdout=node.log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    joined = before
    while joined <= before:
        assert time.monotonic() < deadline, node.log.read_text()
        time.sleep(0.5)
        with contextlib.suppress(OSError):  # a server on a busy machine
            joined = len(alive(cluster))
    return node


def alive(cluster: Cluster) -> list[dict]:
    """The cluster's hosts, as its job server lists them."""
    status, answer = cluster.http("/api/v0/nodes", cluster.token)
    assert status == 200
    return [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"]


@contextlib.contextmanager
def local_ray(cpus: int, **more: str) -> Iterator[Cluster]:
    """A Ray that asks for a token; whatever it started is gone afterwards, and nothing else. `more`: of
    the environment of its processes."""
    folder = Path(tempfile.mkdtemp(prefix="mr-"))  # short: a Unix socket's name has 107 bytes
    token = secrets.token_hex(32)
    write_token(folder, token)
    gcs, dashboard, client, agent, metrics = free_ports(5)
    env = environment(
        HOME=str(folder),
        PATH=f"{BIN}:{os.environ['PATH']}",
        RAY_AUTH_MODE="token",
        RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{dashboard}",
        RAY_TEST_GCS=f"127.0.0.1:{gcs}",
        RAY_TEST_METRICS=f"http://127.0.0.1:{metrics}/metrics",
        **more,
    )
    log = folder / "head.log"
    head = subprocess.Popen(
        [
            *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
            *(f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}/ray"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--port={gcs}"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--metrics-export-port={metrics}", "--object-store-memory=300000000"),
        ],
        env={k: v for k, v in env.items() if k not in _OF_THE_TESTS},
        cwd=folder,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        cluster = Cluster(env["RAY_API_SERVER_ADDRESS"], token, env)
        wait_for_jobs(cluster, head, log)
        yield cluster
    finally:
        for pid in processes_with("HOME", str(folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_jobs(
    cluster: Cluster, server: subprocess.Popen, log: Path, seconds: float = 90
) -> None:
    """Until the job server answers and takes the token, and knows of its own host (later, where the machine
    is busy); `server`: the process without which it cannot."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError, AssertionError):
            if cluster.http("/api/jobs/", cluster.token)[0] == 200 and alive(cluster):
                return
        time.sleep(0.3)
    raise AssertionError(f"no job server at {cluster.address} in {seconds} s: {log.read_text()}")


def write_token(home: Path, token: str) -> None:
    """Where Ray looks for the token: `~/.ray/auth_token`."""
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_text(token)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def processes_with(name: str, value: str) -> list[int]:
    """Processes that were started with this environment variable, which nobody else has."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found
