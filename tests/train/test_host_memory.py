"""More trainers than a machine can hold are refused before one starts."""

import pytest

from mimray.errors import UserError
from mimray.train import cluster
from mimray.train.host_memory import free_memory

pytestmark = pytest.mark.unit

GIB = 2**30


def test_free_memory():
    assert 2**20 < free_memory() < 2**50


def test_trainers_that_the_machine_cannot_hold(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "free_memory", lambda: 22 * GIB)
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda _: {0, 1})
    line = r"speed\.workers=64: .* 48 GiB or more, and this machine has 22 GiB free; .* RAY_ADDRESS"
    with pytest.raises(UserError, match=line), cluster.ray_session(64):
        pass


@pytest.mark.parametrize(("workers", "cpus"), [(4, 2), (64, 64)])
def test_trainers_that_have_memory_or_a_cpu_each(monkeypatch, workers, cpus):
    """What a CPU each is given is not ours to refuse: their memory may be all but shared."""
    monkeypatch.setattr(cluster, "free_memory", lambda: 4 * GIB)
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda _: set(range(cpus)))
    cluster.check_memory(workers)
