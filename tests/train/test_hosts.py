"""What a change of the cluster's hosts means for a group of trainers."""

import pytest

from mimray.recipe import Speed
from mimray.train import elastic
from mimray.train.elastic import Hosts, leaves_nothing
from mimray.train.resources import Layout

pytestmark = pytest.mark.unit


def node(name, cpus=2.0):
    return {"NodeID": name, "Alive": True, "Resources": {"CPU": cpus}}


@pytest.fixture
def cluster(monkeypatch):
    """Its hosts, to be changed; every look counts."""
    nodes = [node("a")]
    monkeypatch.setattr(elastic.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(elastic, "_LOOK_SECONDS", 0.0)
    return nodes


def watch(**speed):
    hosts = Hosts(Speed(**speed))
    hosts.began()
    return hosts


@pytest.mark.parametrize(
    ("workers", "each", "cpus", "starved"),
    [
        (1, 1.0, [2.0], False),
        (2, 1.0, [2.0], True),
        (2, 0.5, [2.0], False),
        (2, 1.0, [2, 2], False),
    ],
)
def test_whether_a_whole_cpu_is_left_for_the_data(workers, each, cpus, starved):
    nodes = [node(str(k), count) for k, count in enumerate(cpus)]
    assert leaves_nothing(Layout(workers, False, each), nodes) == starved


def test_a_host_that_joins_and_stays_is_room(cluster):
    hosts, layout = watch(workers=[1, 2]), Layout(1, False, 1.0)
    assert hosts.verdict(layout) is None
    cluster.append(node("b"))
    assert [hosts.verdict(layout) for _ in range(2)] == [None, "room"]
    hosts.began()
    assert [hosts.verdict(layout) for _ in range(3)] == [None] * 3


def test_a_group_that_is_complete_takes_no_more(cluster):
    hosts = watch(workers=[1, 2])
    cluster.append(node("b"))
    assert [hosts.verdict(Layout(2, False, 1.0)) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(("loader", "then"), [("ray", "starved"), ("torch", None)])
def test_trainers_that_hold_every_cpu_that_is_left_starve(cluster, loader, then):
    cluster.append(node("b"))
    hosts, layout = watch(workers=[1, 2], loader=loader), Layout(2, False, 1.0)
    assert hosts.verdict(layout) is None
    cluster.pop()
    assert [hosts.verdict(layout) for _ in range(2)] == [None, then]
