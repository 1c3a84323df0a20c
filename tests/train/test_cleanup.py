"""A cache on two hosts, which are two Ray nodes here that keep their caches in places of their own."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from mimray.data.node_cache import NodeCache
from mimray.train.cleanup import clear_cache
from tests.train.runs import environment

REPOSITORY = Path(__file__).parents[2]
TWO_HOSTS = """
import sys, time
from pathlib import Path
import pyarrow as pa, ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from mimray.data.node_cache import NodeCache
from mimray.train.cleanup import clear_cache

folder, cache = Path(sys.argv[1]), NodeCache(2**20)
cluster = Cluster()
for name in ("one", "two"):
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False,
                     env_vars={"MIMRAY_CACHE": str(folder / name)})
ray.init(address=cluster.address, log_to_driver=False)

@ray.remote(num_cpus=1)
def fill():
    return cache.fetch("key", lambda: pa.py_buffer(b"data")).to_pybytes()

on = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()]
assert ray.get([fill.options(scheduling_strategy=s).remote() for s in on]) == [b"data"] * 2
print(*sorted(str(f.relative_to(folder).parts[0]) for f in folder.rglob("key")))
began = time.monotonic()
clear_cache(cache)
print(time.monotonic() - began < 10, *folder.rglob("mimray-cache-*"))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.faults
def test_every_host_is_cleared(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWO_HOSTS, str(tmp_path)],
        env=environment(RAY_USAGE_STATS_ENABLED="0"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-2:] == ["one two", "True"], done.stderr


@pytest.mark.unit
def test_without_ray_this_host_is_cleared_and_no_ray_started(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMRAY_CACHE", str(tmp_path))
    cache = NodeCache(2**20)
    cache.fetch("key", lambda: pa.py_buffer(b"data"))
    assert cache.folder.is_dir()
    clear_cache(cache)
    assert not cache.folder.exists() and not ray.is_initialized()
