"""What the doctor makes of facts that hosts gave: each fault is found, named and comes with its mend."""

import dataclasses
import time
import types

import numpy as np
import pytest

from mimray.data.framing import Framing
from mimray.data.sources import open_source
from mimray.recipe import Speed
from mimray.train.doctor.demand import (
    Decoding,
    Demand,
    Link,
    Storage,
    judge_decoding,
    judge_memory,
    judge_network,
    judge_storage,
)
from mimray.train.doctor.finding import GIB, several
from mimray.train.doctor.host import (
    Host,
    Room,
    Seen,
    code_digest,
    gpus_of_driver,
    look_around,
    room,
)
from mimray.train.doctor.room import judge_disks, judge_gpus, judge_shared_memory
from mimray.train.doctor.software import judge_clocks, judge_token, judge_versions
from mimray.train.doctor.storage import _some_rows, time_decoding, time_pictures, time_storage
from mimray.train.doctor.survey import _clock, _names

pytestmark = pytest.mark.unit

VERSIONS = {"python": "3.11.9", "ray": "2.60.0", "mimray": "0.1.0 (0a1b2c3d)"}
SEEN = Seen(
    versions=VERSIONS,
    token=True,
    memory=60 * GIB,
    temporary=Room("/tmp", 80 * GIB, 100 * GIB),
    runs=None,
    shared_memory=Room("/dev/shm", 30 * GIB, 32 * GIB),
)
HOST = Host("h1", cpus=8.0, gpus=0.0, object_store=20 * GIB, seen=SEEN)
DEMAND = Demand(
    trainers=2,
    use_gpu=False,
    micro_batch=64,
    memory=4 * GIB,
    gradients=350_000_000,
    checkpoint=1_000_000_000,
    images_per_s=100.0,
    batch=200,
    checkpoint_every=10,
)


def seen(name="h2", host=HOST, **changes):
    """A host that sees something else."""
    return dataclasses.replace(host, name=name, seen=dataclasses.replace(SEEN, **changes))


def only(findings):
    (finding,) = findings
    return finding


# ----- software -----------------------------------------------------------------------------------


def test_hosts_that_are_alike():
    for findings in (
        judge_versions([HOST, seen()], VERSIONS),
        judge_token([HOST], "127.0.0.1:8265"),
        judge_clocks([HOST], None),
        judge_disks([HOST], Speed(), GIB),
        judge_shared_memory([HOST]),
        judge_gpus([HOST]),
    ):
        assert only(findings).weight == "ok"


@pytest.mark.parametrize(
    ("package", "mend"), [("ray", "requirements.lock"), ("mimray", "submit the run as a job")]
)
def test_the_host_with_another_version_is_named(package, mend):
    finding = only(judge_versions([HOST, seen(versions=VERSIONS | {package: "9"})], VERSIONS))
    assert finding.weight == "mend"
    assert finding.text.startswith(f"h2: {package} 9, and the driver has {VERSIONS[package]}")
    assert mend in finding.text


def test_a_package_that_a_host_lacks():
    lacks = {name: v for name, v in VERSIONS.items() if name != "ray"}
    assert "h2: ray none" in only(judge_versions([HOST, seen(versions=lacks)], VERSIONS)).text


@pytest.mark.parametrize(
    ("token", "dashboard", "weight", "says"),
    [
        (True, "localhost:8265", "ok", "asked for on 1 host(s)"),
        (True, None, "ok", "asked for"),
        (True, "10.0.0.1:8265", "look", "listens on 10.0.0.1, where it is not encrypted"),
        (False, "[::1]:8265", "look", "RAY_AUTH_MODE=token"),
        (False, "10.0.0.1:8265", "look", "and its job server listens on 10.0.0.1: whoever"),
    ],
)
def test_token(token, dashboard, weight, says):
    finding = only(judge_token([seen(token=token)], dashboard))
    assert finding.weight == weight and says in finding.text


@pytest.mark.parametrize(
    ("ahead", "within", "storage", "weight"),
    [
        (1.9, 0.0, None, "ok"),
        (-2.5, 0.1, None, "look"),
        (2.5, 1.0, None, "ok"),  # it may be 1.5
        (-1000.0, 0.1, "s3://bucket/runs", "mend"),
        (-1000.0, 0.1, "/shared/runs", "look"),
    ],
)
def test_clocks(ahead, within, storage, weight):
    host = dataclasses.replace(HOST, ahead=ahead, within=within)
    finding = only(judge_clocks([host], storage))
    assert finding.weight == weight
    if weight != "ok":
        assert ("ahead of" if ahead > 0 else "behind") in finding.text and "chrony" in finding.text


# ----- room ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "weight", "says"),
    [
        ({"temporary": Room("/tmp", 4 * GIB, 100 * GIB)}, "look", "more than 95% full"),
        ({"temporary": Room("/tmp", 1 * GIB, 10 * GIB)}, "look", "less than speed.cache_gib=2"),
        ({"runs": Room("/runs", 2 * GIB, 9 * GIB)}, "mend", "the checkpoints take 3.0 GiB"),
    ],
)
def test_disks(changes, weight, says):
    finding = only(judge_disks([HOST, seen(**changes)], Speed(), 3 * GIB))
    assert finding.weight == weight
    assert finding.text.startswith("h2: ") and says in finding.text


@pytest.mark.parametrize("place", [None, Room("/dev/shm", GIB, GIB // 16)])
def test_shared_memory_that_is_less_than_the_object_store(place):
    finding = only(judge_shared_memory([HOST, seen(shared_memory=place)]))
    assert finding.weight == "look" and "h2: /dev/shm has 0." in finding.text


@pytest.mark.parametrize(
    ("ray", "driver", "torch", "weight", "says"),
    [
        (4, [GIB] * 4, 4, "ok", "4"),
        (2, [GIB] * 4, 4, "look", "Ray gives out 2 of 4 GPU(s)"),
        (4, [GIB] * 3, 3, "mend", "Ray gives out 4 GPU(s) and there are 3"),
        (4, [GIB] * 4, 0, "mend", "the driver has 4 GPU(s) and torch can use 0"),
        (2, None, 2, "ok", "2"),  # no nvidia-smi there
        (2, None, 0, "mend", "there are 0"),
    ],
)
def test_gpus(ray, driver, torch, weight, says):
    host = dataclasses.replace(HOST, gpus=float(ray))
    finding = only(judge_gpus([seen("h1", host, gpus=driver, torch_gpus=torch)]))
    assert finding.weight == weight and says in finding.text


# ----- what the run asks for ----------------------------------------------------------------------


def test_gradients_that_take_longer_than_the_step():
    """Two seconds of computing a step, and 700 MB to carry."""
    links = [Link("h1", "h2", 1e9), Link("h2", "h1", 349e6)]
    finding = only(judge_network(links, DEMAND))
    assert finding.weight == "look" and "349 MB/s from h2 to h1" in finding.text
    assert only(judge_network([Link("h1", "h2", 351e6)], DEMAND)).weight == "ok"
    alone = dataclasses.replace(DEMAND, trainers=1)
    assert only(judge_network(links, alone)).weight == "ok"
    assert judge_network([], DEMAND) == []


def test_storage_that_is_slower_than_the_run():
    """A checkpoint of 1 GB every 20 s; 100 pictures of 1 MB a second."""
    decoding = Decoding(100.0, 1e6)

    def weights(write, pictures):
        measured = [Storage("h1", 1e9, 1e9, pictures), Storage("h2", write, 1e9, pictures)]
        return [finding.weight for finding in judge_storage(measured, decoding, DEMAND)]

    assert weights(51e6, 51e6) == ["ok", "ok"]
    assert weights(49e6, 49e6) == ["look", "look"]
    (unknown,) = judge_storage([Storage("h1", 1e9, 1e9, None)], None, None)
    assert unknown.weight == "ok" and "writes 1,000 and reads 1,000 MB/s" in unknown.text


def test_decoding_that_is_slower_than_the_trainers():
    decoding = Decoding(50.0, 1e5)
    assert only(judge_decoding(2.0, decoding, DEMAND)).weight == "ok"
    finding = only(judge_decoding(1.0, decoding, DEMAND))
    assert finding.weight == "look" and "about 50 pictures/s, and these take 100" in finding.text


def test_memory_that_does_not_suffice():
    gpu = dataclasses.replace(DEMAND, use_gpu=True, memory=20 * GIB)
    hosts = [seen("h1", gpus=[80 * GIB]), seen("h2", gpus=[16 * GIB])]
    finding = only(judge_memory(hosts, gpu))
    assert finding.weight == "mend" and "the smallest GPU has 16.0; lower" in finding.text
    assert only(judge_memory(hosts[:1], gpu)).weight == "ok"
    assert judge_memory([seen(gpus=None)], gpu) == []
    small = [seen(memory=8 * GIB)]  # for two trainers of 4.5 GiB
    assert only(judge_memory(small, DEMAND)).weight == "mend"
    assert only(judge_memory(small * 2, DEMAND)).weight == "ok"


# ----- looking and measuring, here ----------------------------------------------------------------


def test_looking_around(tmp_path):
    here = look_around(str(tmp_path / "not" / "there"), token=True, ray_gpus=0.0)
    assert here.runs == room(str(tmp_path))
    assert here.temporary.free > 0 and here.memory > 2**20
    assert here.versions["mimray"].endswith(f"({code_digest()})")


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("printf '81559\\n143771\\n'", [81559 * 2**20, 143771 * 2**20]),
        ("echo No devices were found", []),
        ("echo the driver is not loaded; exit 9", []),
        (None, None),
    ],
)
def test_what_the_driver_has(script, found, tmp_path, monkeypatch):
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of_driver() == found


def test_measuring_leaves_nothing(tmp_path):
    assert all(speed > 0 for speed in time_storage(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        time_storage("/proc/no/such/place")


def test_pictures_are_read_in_whole_groups():
    source = open_source("builtin:photos/val", "val")
    source.groups = np.array([4, 2, len(source) - 6])
    row = sum(size for _, size, _ in source.parts()) / len(source)
    for place, size, rows in ((0.0, 1, range(4)), (0.5, 1, range(4, 6)), (0.0, 5 * row, range(6))):
        assert list(_some_rows(source, place, size)) == list(rows)
    assert time_pictures(open_source("builtin:photos/val", "val"), 0.5) > 0


def test_decoding_here():
    decoding = time_decoding(open_source("builtin:photos/val", "val"), Framing(32, True))
    assert decoding.images_per_s > 0 and 1e3 < decoding.size < 1e6


def test_a_clock_that_is_ahead():
    """By five seconds, asked five times; the quickest answer counts."""

    class Slow:
        waits = iter([0.05, 0.04, 0.0, 0.03, 0.05])
        now = types.SimpleNamespace(remote=lambda: None)

        def get(self, _):
            wait = next(self.waits)
            time.sleep(wait)  # on the way there, so it seems ahead by half of that
            return time.time() + 5.0

    one = Slow()
    one.probe = one
    ahead, within = _clock(one)
    assert ahead == pytest.approx(5.0, abs=0.01) and 0 <= within < 0.01


def test_hosts_of_one_name_are_told_apart():
    nodes = [("a", 1), ("a", 2), ("b", 3)]
    keys = ("NodeManagerHostname", "NodeManagerPort")
    assert _names([dict(zip(keys, node, strict=True)) for node in nodes]) == ["a:1", "a:2", "b"]


def test_many_hosts_in_a_sentence():
    assert several(["a", "b"]) == "a, b"
    assert several([*"abcde"]) == "a, b, c and 2 more"
