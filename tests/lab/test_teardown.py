"""The last of all: `mimray cluster down` ends what runs, cleanly, and leaves no Ray behind."""

import time

import pytest

from tests.faults.harness import cmdline
from tests.lab.hosts import mimray
from tests.lab.under_way import running

_RAY = (b"raylet", b"gcs_server", b"ray::", b"/ray/", b"dashboard")
pytestmark = pytest.mark.lab


def rays(machines) -> list[str]:
    """Ray's processes on all hosts; what else runs there has `mimray` in its words."""
    found = [cmdline(pid) for name in machines.names for pid in machines.processes(name)]
    return [
        line.decode(errors="replace")[:200] for line in found if any(part in line for part in _RAY)
    ]


def test_down(cluster, machines, operator, file, folder):
    with running(cluster, folder, "down", 100_000, 5) as run:
        assert rays(machines)
        done = mimray(operator, "cluster", "down", file)
        assert done.returncode == 0, done.stderr[-5000:]
        assert run.record["status"] == "stopped"
        assert int(run.record["checkpoint"].rpartition("-")[2]) == run.record["steps"]
    deadline = time.monotonic() + 30
    while left := rays(machines):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
