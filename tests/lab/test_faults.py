"""A host is cut off the network in the middle of a run, and healed."""

import time

import pytest

from tests.faults.harness import cmdline
from tests.lab.under_way import running

pytestmark = [pytest.mark.lab, pytest.mark.long]


def trainers_on(machines, host: str) -> set[int]:
    """The processes that train there, seen from outside."""
    return {pid for pid in machines.processes(host) if b"RayTrainWorker" in cmdline(pid)}


def test_a_host_is_cut_off_and_healed(cluster, machines, folder):
    """Its trainer can still write to the run's folder, as with a store in another network: it must not."""
    with running(cluster, folder, "cut", 300, 20) as run:
        stale = trainers_on(machines, "h3")
        assert stale
        began = time.time()
        machines.cut("h3")
        try:
            seconds = run.goes_on(["h1", "h2"], since=began)
            assert stale <= trainers_on(machines, "h3"), "Ray has ended them by itself"
        finally:
            machines.heal("h3")
        run.wait_until(lambda: not stale & trainers_on(machines, "h3"), 90)
        run.finish()
    print(f"after a host was cut off: {seconds:.0f} s")
    assert seconds < 180, seconds
