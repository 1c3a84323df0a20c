"""A run that is under way on the lab's hosts, watched while things happen to it."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mimray.train.run_folder import RunFolder
from tests.lab.hosts import wait_for_hosts
from tests.train.local_ray import Cluster
from tests.train.runs import start

# two CPUs each: a trainer on each host, and a CPU that is left on the head for the data
SETTINGS = [
    *("speed.workers=[2,3]", "speed.cpus_per_worker=2", "run.keep=1000"),
    *("run.validate_every=100it", "run.log_every=1it"),
    *("optim.lr=0.001", "schedule.warmup=4it"),
]
HOSTS = ["h1", "h2", "h3"]
STOP = {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
"""Ray's own 3 seconds from the signal to SIGKILL are too few for a checkpoint."""


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

    def goes_on(self, hosts: list[str], since: float) -> float:
        """Wait for the first row of a group on `hosts`; returns the seconds that it came after `since`. (A
        group that was laid out for a host that is lost, but not yet missed, has none.)"""

        def rows() -> list[dict]:
            starts = self.record.get("starts", [])
            theirs = [k for k, start in enumerate(starts) if sorted(start["hosts"]) == hosts]
            return [r for r in self.rows if r["attempt"] in theirs and r["time"] > since]

        self.wait_until(lambda: bool(rows()), 400)
        return rows()[0]["time"] - since

    def ends(self, status: str, seconds: float = 180) -> dict:
        """Wait for the job's end, which is this one; returns what Ray knows of it."""
        deadline = time.monotonic() + seconds
        while (info := self.cluster.info(self.job))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"no end in {seconds} s: {self.said}"
            time.sleep(1)
        assert info["status"] == status, self.said
        return info

    def finish(self, seconds: float = 400) -> None:
        """To the end, which is a good one: every step once, and every checkpoint whole."""
        assert self.ends("SUCCEEDED", seconds)["driver_exit_code"] == 0, self.said
        assert self.record["status"] == "finished"
        assert len(self.rows) == self.length
        self.assert_whole()

    def assert_whole(self) -> None:
        """Every step stands once, and every checkpoint is what one group of trainers wrote."""
        rows = self.rows
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        attempts = [row["attempt"] for row in rows]
        assert attempts == sorted(attempts)
        folders = sorted((self.folder / "checkpoints").iterdir())
        steps = [json.loads((f / "manifest.json").read_text())["step"] for f in folders]
        assert [folder.name for folder in folders] == [f"step-{step:08d}" for step in steps]
        assert len(steps) > 2 and steps[-1] <= len(rows)
        for folder in folders:
            files = json.loads((folder / "manifest.json").read_text())["files"]
            assert {file.name for file in folder.iterdir()} == files.keys() | {"manifest.json"}
            for name, expected in files.items():
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                assert digest == expected["sha256"], f"{folder.name}/{name}"


def undisturbed(folder: Path, length: int, steps: int) -> list[dict]:
    """The first rows of the same training by one trainer, on this machine."""
    folder.mkdir()
    more = (
        "speed.workers=1",
        "speed.cpus_per_worker=1",
        "run.validate_every=1000000it",
        "run.tracking=off",
    )
    process = start(folder, *SETTINGS, f"schedule.length={length}it", *more)
    run, deadline = RunFolder(f"{folder}/runs/run"), time.monotonic() + 400
    try:
        while len(rows := run.rows() if run.record() else []) < steps:
            assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < deadline, len(rows)
            time.sleep(1)
    finally:
        process.terminate()
        process.communicate()
    return rows[:steps]


@contextmanager
def running(
    cluster: Cluster, folder: Path, name: str, length: int, checkpoint_every: int
) -> Iterator[Run]:
    """A run that has written two checkpoints, with a trainer on each host; a job that is still there at
    the end is stopped."""
    wait_for_hosts(cluster, len(HOSTS))
    job = cluster.submit(
        *("demo", *SETTINGS, f"schedule.length={length}it"),
        f"run.checkpoint_every={checkpoint_every}it",
        *(f"run.storage={folder}/runs", f"run.name={name}"),
        f"run.tracking=sqlite:///{folder}/mlflow.db",
        options=("--no-wait", "--runtime-env-json", json.dumps({"env_vars": STOP})),
    )
    run = Run(cluster, job.name, length, folder / "runs" / name)
    try:
        run.wait_until(lambda: run.record.get("steps", 0) >= 2 * checkpoint_every, 300)
        assert sorted(run.record["starts"][0]["hosts"]) == HOSTS
        yield run
    finally:
        with suppress(OSError):  # the cluster may be what was ended
            cluster.http(f"/api/jobs/{job.name}/stop", cluster.token, {})
