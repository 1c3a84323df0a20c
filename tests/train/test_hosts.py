"""What a change of the cluster's hosts means for a group of trainers."""

import pytest

from mimray.recipe import Speed
from mimray.train import elastic
from mimray.train.elastic import Hosts, leaves_nothing
from mimray.train.resources import Layout, Node

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
    assert hosts.verdict(layout, []) is None
    cluster.append(node("b"))
    assert [hosts.verdict(layout, []) for _ in range(2)] == [None, "room"]
    hosts.began()
    assert [hosts.verdict(layout, []) for _ in range(3)] == [None] * 3


def test_a_group_that_is_complete_takes_no_more(cluster):
    hosts = watch(workers=[1, 2])
    cluster.append(node("b"))
    assert [hosts.verdict(Layout(2, False, 1.0), []) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(
    "loader", ["ray", "torch"]
)  # validation asks for a CPU whatever the loader
def test_trainers_that_hold_every_cpu_that_is_left_starve(cluster, loader):
    cluster.append(node("b"))
    hosts, layout = watch(workers=[1, 2], loader=loader), Layout(2, False, 1.0)
    assert hosts.verdict(layout, []) is None
    cluster.pop()
    assert [hosts.verdict(layout, []) for _ in range(2)] == [None, "starved"]


def gpus(monkeypatch, *free):
    monkeypatch.setattr(
        elastic, "cluster_nodes", lambda: [Node(str(k), *f) for k, f in enumerate(free)]
    )


def test_a_gpu_that_is_free_is_room_only_where_a_trainer_fits(cluster, monkeypatch):
    cluster[:] = [node("a", 5.0)]
    hosts, layout = watch(workers=[1, 4], cpus_per_worker=1.0), Layout(3, True, 1.0)
    gpus(monkeypatch, (1.0, 1.0))  # the last CPU is the data's
    assert [hosts.verdict(layout, ["0"] * 3) for _ in range(3)] == [None] * 3
    gpus(monkeypatch, (2.0, 1.0))
    assert [hosts.verdict(layout, ["0"] * 3) for _ in range(2)] == [None, "room"]
