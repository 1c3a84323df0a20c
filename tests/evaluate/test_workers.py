"""What Ray's tasks reserve, and what each of them is given: without a Ray."""

from types import SimpleNamespace

import pytest
import ray

from mimray.errors import UserError
from mimray.evaluate import workers as module
from mimray.evaluate.cells import Draws, run_all
from mimray.evaluate.workers import OnRay, Share, deal

pytestmark = pytest.mark.unit
GPU = Share(4, 1)


@pytest.fixture
def hosts(monkeypatch):
    """Hosts of so many CPUs and GPUs."""

    def given(*pairs):
        nodes = [{"Alive": True, "Resources": {"CPU": c, "GPU": g}} for c, g in pairs]
        gone = {"Alive": False, "Resources": {"CPU": 96.0, "GPU": 1.0}}
        monkeypatch.setattr(ray, "nodes", lambda: [*nodes, gone])

    return given


@pytest.fixture
def reserved(monkeypatch):
    """Tasks run at once, and what each kind of them reserves is noted."""
    noted = []

    def remote(**options):
        noted.append(options)
        return lambda f: SimpleNamespace(remote=lambda *given: Done(f(*given)))

    class Done:
        def __init__(self, answer):
            self.answer = answer

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "wait", lambda waiting, num_returns: (waiting[:1], waiting[1:]))
    monkeypatch.setattr(ray, "get", lambda done: done.answer)
    return noted


class Features:
    """Satisfies what is asked of an `Extraction`: shards that are noted."""

    source = SimpleNamespace(uri="photos")

    def __init__(self, shards):
        self.left, self.computed = list(range(shards)), []

    def missing(self):
        return list(self.left)

    def compute(self, number, device, threads):
        self.computed.append((number, device, threads))

    def join(self):
        return "joined"


@pytest.mark.parametrize(
    ("pairs", "share"),
    [
        ([(8, 0), (2, 0)], Share()),
        ([(16, 4), (8, 1)], Share(4, 1)),
        ([(64, 1)], Share(16, 1)),
        ([(0, 1), (16, 2)], Share(8, 1)),  # a task would never be placed on the first
        ([(1, 8), (16, 2), (32, 0)], Share(8, 1)),
    ],
)
def test_a_task_is_placed_where_a_gpu_has_its_cpus(hosts, pairs, share):
    hosts(*pairs)
    assert module._share(None) == share


@pytest.mark.parametrize("pairs", [[(0, 1)], [(3, 4), (8, 0)]])
def test_gpus_without_cpus(hosts, pairs):
    hosts(*pairs)
    with pytest.raises(UserError, match="no host has a CPU for each of its GPUs"):
        module._share(None)


def test_more_cpus_than_the_largest_host_has(hosts):
    hosts((4, 0), (8, 0))
    assert module._share(8) == Share(8)
    with pytest.raises(UserError, match="--cpus 9: the largest host has 8"):
        module._share(9)


def test_a_task_with_a_gpu_has_a_process_of_its_own():
    """Ray says so where the options are given to `ray.remote`, and nowhere else."""
    task = ray.remote(**GPU.options())(module._call)
    assert task._default_options["max_calls"] == 1


def test_all_kinds_of_tasks_say_what_they_reserve_as_they_are_made(hosts, reserved):
    hosts((8, 2))
    group = OnRay(GPU, lambda text: None)
    group.extract(Features(1))
    assert group.call(lambda *, device: device) == "cuda"
    cell = SimpleNamespace(
        name="a", group="a", run=lambda *_: None, outcome=lambda: SimpleNamespace(status="finished")
    )
    assert run_all([cell], Draws(None, None), GPU, lambda *_: None) == {}
    assert reserved == [{"num_cpus": 4, "num_gpus": 1}] * 3


def test_without_gpus_a_probe_has_a_host_s_cpus(hosts, reserved, monkeypatch):
    """Features are a task a CPU; the probes of them all are one task."""
    threads = []
    monkeypatch.setattr(module, "_use", threads.append)
    for cpus in (6, 64):
        hosts((4, 0), (cpus, 0))
        group = OnRay(Share(), lambda text: None)
        group.extract(Features(1))
        assert group.call(lambda *, device: device) == "cpu"
    assert [(one["num_cpus"], one["num_gpus"]) for one in reserved] == [
        *((1, 0), (6, 0)),
        *((1, 0), (16, 0)),
    ]
    assert threads == [1, 6, 1, 16]


def test_shards_are_dealt_to_few_processes_with_gpus(hosts, reserved):
    hosts((8, 2), (4, 1), (64, 0))
    numbers = list(range(3, 103))
    dealt = deal(numbers, GPU)
    assert [number for part in dealt for number in part] == numbers
    assert len(dealt) <= 12 and max(map(len, dealt)) - min(map(len, dealt[:-1])) <= 1
    assert deal([7, 9], GPU) == [[7], [9]] == deal([7, 9], Share())
    assert len(deal(numbers, Share(4))) == 100 and deal([], GPU) == []


def test_their_progress_is_told_by_shards(hosts, reserved):
    hosts((4, 1))
    said, features = [], Features(6)
    assert OnRay(GPU, said.append).extract(features) == "joined"
    assert features.computed == [(number, "cuda", 3) for number in range(6)]
    assert [line.rpartition(": ")[2] for line in said] == ["2/6 shards", "4/6 shards", "6/6 shards"]
