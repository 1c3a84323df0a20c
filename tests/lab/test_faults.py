"""A host is lost in the middle of a run: cut off the network and healed, or without power for good."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mimray.train.run_folder import RunFolder
from tests.faults.harness import cmdline
from tests.lab.hosts import processes_of, wait_for_hosts
from tests.train.local_ray import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

# one CPU each: on the host of two CPUs that is left there is room for one trainer and the data
SETTINGS = [
    *("speed.workers=[1,2]", "speed.cpus_per_worker=1", "run.tracking=off", "run.keep=1000"),
    *("run.validate_every=100it", "run.checkpoint_every=20it", "run.log_every=1it"),
    *("optim.lr=0.001", "schedule.warmup=4it"),
]


@dataclass
class Run:
    """A run under way, as a job of the cluster."""

    cluster: Cluster
    job: str
    length: int
    folder: Path

    @property
    def record(self) -> dict:
        """`run.json` as it is now; empty before there is one."""
        return RunFolder(str(self.folder)).record() or {}

    @property
    def rows(self) -> list[dict]:
        return RunFolder(str(self.folder)).rows()

    @property
    def said(self) -> str:
        answer = self.cluster.http(f"/api/jobs/{self.job}/logs", self.cluster.token)[1]
        return str(answer.get("logs"))[-5000:]

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Until `ready()`; an AssertionError with what the run said where it ends, or time does."""
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.cluster.info(self.job)["status"] in ("PENDING", "RUNNING"), self.said
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.said}"
            time.sleep(0.5)

    def goes_on(self, since: float) -> float:
        """Wait for the first row of another group; returns the seconds that it came after `since`. (A
        group that was laid out for a host that is lost, but not yet missed, has none.)"""
        self.wait_until(lambda: any(row["attempt"] for row in self.rows), 240)
        return next(row["time"] for row in self.rows if row["attempt"]) - since

    def finish(self, seconds: float = 400) -> None:
        """To the end, which is a good one: every step once, and every checkpoint whole."""
        deadline = time.monotonic() + seconds
        while (info := self.cluster.info(self.job))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"no end in {seconds} s: {self.said}"
            time.sleep(1)
        assert (info["status"], info["driver_exit_code"]) == ("SUCCEEDED", 0), self.said
        assert self.record["status"] == "finished"
        self.assert_whole()

    def assert_whole(self) -> None:
        """Every step stands once, and every checkpoint is what one group of trainers wrote."""
        assert [row["step"] for row in self.rows] == list(range(1, self.length + 1))
        attempts = [row["attempt"] for row in self.rows]
        assert attempts == sorted(attempts)
        folders = sorted((self.folder / "checkpoints").iterdir())
        steps = [json.loads((f / "manifest.json").read_text())["step"] for f in folders]
        assert [folder.name for folder in folders] == [f"step-{step:08d}" for step in steps]
        assert len(steps) > 2 and steps[-1] == self.length
        for folder in folders:
            files = json.loads((folder / "manifest.json").read_text())["files"]
            assert {file.name for file in folder.iterdir()} == files.keys() | {"manifest.json"}
            for name, expected in files.items():
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                assert digest == expected["sha256"], f"{folder.name}/{name}"


@contextmanager
def running(cluster: Cluster, folder: Path, name: str, length: int) -> Iterator[Run]:
    """A run that has trained 40 steps with a trainer on each host; a job that is still there at the
    end is stopped."""
    wait_for_hosts(cluster, 2)
    job = cluster.submit(
        *("demo", *SETTINGS, f"schedule.length={length}it"),
        *(f"run.storage={folder}/runs", f"run.name={name}"),
        options=("--no-wait",),
    )
    run = Run(cluster, job.name, length, folder / "runs" / name)
    try:
        run.wait_until(lambda: run.record.get("steps", 0) >= 40, 180)
        assert sorted(run.record["starts"][0]["hosts"]) == ["h1", "h2"]
        yield run
    finally:
        cluster.http(f"/api/jobs/{job.name}/stop", cluster.token, {})


def trainers_on(host: str) -> set[int]:
    """The processes that train there, seen from outside."""
    return {pid for pid in processes_of(host) if b"RayTrainWorker" in cmdline(pid)}


def test_a_host_is_cut_off_and_healed(cluster, lab, folder):
    """Its trainer can still write to the run's folder, as with a store in another network: it must not."""
    with running(cluster, folder, "cut", 300) as run:
        stale = trainers_on("h2")
        assert stale
        lab("cut", "h2")
        try:
            seconds = run.goes_on(since=time.time())
            assert run.record["starts"][-1]["hosts"] == ["h1"]
            assert stale <= trainers_on("h2"), "Ray has ended them by itself"
        finally:
            lab("heal", "h2")
        run.wait_until(lambda: not stale & trainers_on("h2"), 90)
        run.finish()
    assert seconds < 180, seconds


def test_a_host_crashes(cluster, lab, folder):
    """The last of all: what `ray up` left there is lost with it."""
    with running(cluster, folder, "crash", 200) as run:
        lab("crash", "h2")
        seconds = run.goes_on(since=time.time())
        run.finish()
    assert run.record["starts"][-1]["hosts"] == ["h1"]
    assert seconds < 180, seconds
