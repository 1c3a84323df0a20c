"""`mimray doctor` on a live cluster: a head and one more raylet."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.train.local_ray import Cluster, join, local_ray
from tests.train.runs import environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with local_ray(cpus=2) as started:
        node = join(started, cpus=1)
        yield started
        node.kill()


def doctor(cluster, folder, **more):
    """`mimray doctor demo --json`, as in a job: status, the object, and what went to standard error."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mimray.cli", "doctor", "demo", "--json"),
            *(f"run.storage={folder}/runs", "speed.workers=2"),
        ],
        env=environment(
            **{name: cluster.env[name] for name in ("HOME", "PATH", "RAY_AUTH_MODE")},
            RAY_ADDRESS=cluster.env["RAY_TEST_GCS"],
            **more,
        ),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_two_hosts_are_asked_and_nothing_stays(cluster, tmp_path):
    status, result, said = doctor(cluster, tmp_path)
    found = {f["check"]: f for f in result["findings"]}
    assert status == 0, ([f for f in result["findings"] if not f["ok"]], said)
    assert sorted(host["cpus"] for host in result["hosts"]) == [1.0, 2.0]
    assert {host["seen"]["token"] for host in result["hosts"]} == {True}
    assert found["token"]["finding"] == "asked for on 2 host(s)"
    assert found["versions"]["finding"] == "the same on 2 host(s)"
    assert "2 trainer(s) of" in found["hosts"]["finding"]
    assert "MB/s from" in found["network"]["finding"]
    assert "a checkpoint, one every" in json.dumps(result)
    assert {"clocks", "disks", "memory", "gpus", "storage", "needs", "decoding"} <= set(found)
    assert not any(tmp_path.iterdir())


def test_a_ray_that_does_not_let_us_in(cluster, tmp_path):
    status, result, _ = doctor(cluster, tmp_path, RAY_AUTH_TOKEN="0" * 64)
    (bad,) = [f for f in result["findings"] if not f["ok"]]
    assert status == 2
    assert bad["check"] == "cluster" and "no Ray lets us in there" in bad["finding"]
    assert "\n" not in bad["finding"]
