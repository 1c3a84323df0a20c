"""`ray dashboard FILE`: the way to the job server, which listens on the head's loopback alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimray.errors import RunFailed, UserError
from mimray.verbs.cluster.commands import environment, program, show, token
from mimray.verbs.cluster.file import ClusterFile

_OPEN_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
_BROKEN = 10  # tunnels, one after another, before one gives up
_WAIT_SECONDS = 2.0
_LISTENERS = Path("/proc/net/tcp")
_LISTEN = "0A"  # the kernel's word for it
_HOSTS = "/api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
_DIRECTLY = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # a proxy would get the token


class Unreached(RunFailed):
    """No tunnel, or nobody at its other end. `why`: without advice."""

    def __init__(self, file: ClusterFile, why: str) -> None:
        self.why = f"{file.path}: no way to the job server{why}"
        super().__init__(
            f"{self.why}; is the cluster up? `mimray cluster up {file.path}` starts it"
        )


@dataclass(frozen=True)
class JobServer:
    """A cluster's job server as it is reached from here."""

    address: str
    token: str

    def get(self, path: str) -> Any:
        """JSON of a path. Raises OSError where nobody answers, UserError for a token that is refused."""
        request = urllib.request.Request(f"{self.address}{path}")  # noqa: S310
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with _DIRECTLY.open(request, timeout=_ANSWER_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise UserError(
                    "the cluster has another token than ~/.ray/auth_token; take the one that it was "
                    "started with"
                ) from None
            raise
        except http.client.HTTPException as error:  # the tunnel broke within the answer
            raise ConnectionError(str(error)) from None

    def hosts(self) -> list[dict[str, Any]]:
        """Those that live: `node_ip`, `node_name`, `resources_total`, ..."""
        hosts: list[dict[str, Any]] = self.get(_HOSTS)["data"]["result"]["result"]
        return hosts

    def jobs(self) -> list[dict[str, Any]]:
        """Those that were submitted: `submission_id`, `status`, `entrypoint`, ..."""
        return [job for job in self.get("/api/jobs/") if job.get("submission_id")]

    def running(self) -> list[str]:
        """Names of what has not ended: jobs, and drivers that nobody submitted."""
        jobs = [job for job in self.get("/api/jobs/") if job["status"] in ("PENDING", "RUNNING")]
        return [job.get("submission_id") or f"driver {job['job_id']}" for job in jobs]

    def job(self, name: str) -> dict[str, Any]:
        """One of them; `driver_exit_code` once it has ended."""
        answer: dict[str, Any] = self.get(f"/api/jobs/{name}")
        return answer

    def log(self, name: str) -> str:
        """All that a job has said so far."""
        log: str = self.get(f"/api/jobs/{name}/logs")["logs"]
        return log


class Patience:
    """With tunnels that break: one is opened again, but not for ever where none is of use."""

    def __init__(self) -> None:
        self.spent = 0

    def renew(self) -> None:
        """What was asked has been answered."""
        self.spent = 0

    def lasts(self) -> bool:
        """Whether to open another tunnel, which is said, after a moment; a longer one each time, a minute
        and a half together."""
        self.spent += 1
        if self.spent >= _BROKEN:
            return False
        print("the job server does not answer; opening another tunnel", file=sys.stderr, flush=True)
        time.sleep(self.spent * _WAIT_SECONDS)
        return True


@contextmanager
def answering(file: ClusterFile) -> Iterator[JobServer]:
    """A tunnel for a few questions. Raises RunFailed where one of them is not answered."""
    try:
        with tunnel(file) as server:
            yield server
    except OSError as error:
        raise RunFailed(
            f"{file.path}: the job server was reached, and does not answer any more ({error}); "
            f"try again"
        ) from None


@contextmanager
def tunnel(file: ClusterFile) -> Iterator[JobServer]:
    """Open for the time of the block, on a port that is free. Raises Unreached where it does not open, or
    nobody is there, and OSError of a job server that is there and does not answer."""
    file.check_addresses()
    port, secret = _free_port(), token()
    words = ("dashboard", "--port", str(port), file.path)
    show(file, *words)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(  # noqa: S603
            [program(), *words],
            env=environment(file),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the job, and ssh is a child of its own
        )
        try:
            server = JobServer(f"http://127.0.0.1:{port}", secret)
            if not _opens(server, port, process):
                in_time = "" if process.poll() is not None else f" in {_OPEN_SECONDS:.0f} s"
                said.seek(0)
                last = (said.read().strip().splitlines() or ["no answer"])[-1]
                raise Unreached(file, f"{in_time} ({last.strip()})")
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _opens(server: JobServer, port: int, process: subprocess.Popen[bytes]) -> bool:
    """Raises OSError where it does, and who is there is not well."""
    deadline, last = time.monotonic() + _OPEN_SECONDS, OSError()
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _ours(port):
                server.get("/api/version")
                return True
        except OSError as error:
            last = error
        time.sleep(0.5)
    if isinstance(last, (urllib.error.HTTPError, TimeoutError)) and process.poll() is None:
        raise last
    return False


def _ours(port: int) -> bool:
    """Whether who listens there is this user, as far as the kernel tells.

    Another may have taken the port between our look for a free one and ssh, and would be told the token.
    """
    if not _LISTENERS.exists():
        return True  # no Linux
    rows = [line.split() for line in _LISTENERS.read_text().splitlines()[1:]]
    users = [r[7] for r in rows if r[1].endswith(f":{port:04X}") and r[3] == _LISTEN]
    return bool(users) and set(users) == {str(os.getuid())}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
