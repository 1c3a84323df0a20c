"""cluster/leave.py: whom it asks on a head; then on a worker and on the head of one Ray, under one run."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from ray import job_submission
from ray.job_submission import JobStatus

from tests.train.local_ray import REPOSITORY, Cluster, alive, join, local_ray
from tests.train.runs import TINY, Finished

LEAVE = REPOSITORY / "cluster/leave.py"
LENGTH = "schedule.length=100000it"
ON_WORKER = """
import sys, time, ray
sys.path.insert(0, sys.argv[1])
import leave
ray.init(address="auto", log_to_driver=False)
leave.move_trainers(sys.argv[2], time.monotonic() + float(sys.argv[3]))
"""
"""What `leave.py` does where the head is not on the same machine, whose Ray it takes for its own."""


@pytest.fixture
def leave(monkeypatch):
    spec = importlib.util.spec_from_file_location("leave", LEAVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "_SEEN_SECONDS", 0.0)
    return module


DRIVER = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("ready", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.5)  # the checkpoint
sys.exit(75 if len(asked) == 1 else 1)
"""


class Jobs:
    """Stands in for Ray's job server: one job, whose driver has not joined Ray at the first look."""

    def __init__(self, address: str) -> None:
        words = [sys.executable, "-S", "-c", DRIVER]
        self.driver = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self.driver.stdout.readline() == b"ready\n"
        self.known = SimpleNamespace(node_ip_address=address, pid=str(self.driver.pid))
        self.looks, self.stopped = 0, []

    def list_jobs(self) -> list:
        self.looks += 1
        ended = self.driver.poll() is not None or self.stopped
        status = JobStatus.FAILED if ended else JobStatus.RUNNING
        driver = self.known if self.looks > 1 else None
        own = SimpleNamespace(submission_id=None, status=JobStatus.RUNNING)  # leave.py's
        return [own, SimpleNamespace(submission_id="a", status=status, driver_info=driver)]

    def stop_job(self, name: str) -> None:
        self.stopped.append(name)


@pytest.fixture
def jobs(monkeypatch, request):
    server = Jobs(request.param)
    monkeypatch.setattr(job_submission, "JobSubmissionClient", lambda: server)
    yield server
    server.driver.kill()
    server.driver.communicate()


@pytest.mark.unit
@pytest.mark.parametrize("jobs", ["10.0.0.1"], indirect=True)
def test_a_driver_of_this_host_is_asked_once_and_waited_for(leave, jobs):
    leave.stop_drivers("10.0.0.1", time.monotonic() + 30)
    assert (jobs.driver.poll(), jobs.stopped) == (75, [])


@pytest.mark.unit
@pytest.mark.parametrize("jobs", ["10.0.0.2"], indirect=True)
def test_a_driver_of_another_host_is_rays_to_stop(leave, jobs):
    """Its process id means another process here."""
    leave.stop_drivers("10.0.0.1", time.monotonic() + 30)
    assert (jobs.driver.poll(), jobs.stopped) == (None, ["a"])


@pytest.mark.unit
@pytest.mark.parametrize("jobs", ["10.0.0.2"], indirect=True)
def test_a_job_that_does_not_end_is_not_waited_for_for_ever(leave, jobs, monkeypatch):
    monkeypatch.setattr(jobs, "stop_job", lambda _: None)
    began = time.monotonic()
    leave.stop_drivers("10.0.0.1", began + 0.5)
    assert time.monotonic() - began < 5


class Training(NamedTuple):
    """A run that is under way as a job of a cluster."""

    cluster: Cluster
    job: str
    run: Finished
    worker: str

    def wait_for(self, ready, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            said = self.cluster.http(f"/api/jobs/{self.job}/logs", self.cluster.token)[1]
            assert self.cluster.info(self.job)["status"] in ("PENDING", "RUNNING"), said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    def attempts(self) -> list[int]:
        """Of the rows so far."""
        file = self.run.folder / "metrics.jsonl"
        return [row["attempt"] for row in self.run.rows] if file.exists() else []

    def leave(self, *words: str, seconds: float = 120) -> None:
        """Run it as a pod has it: Ray's address and token, and none of its job server."""
        known = self.cluster.env | {"RAY_ADDRESS": self.cluster.env["RAY_TEST_GCS"]}
        del known["RAY_API_SERVER_ADDRESS"]
        subprocess.run([sys.executable, *words], env=known, check=True, timeout=seconds)


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Training:
    folder: Path = tmp_path_factory.mktemp("leave")
    with local_ray(2) as cluster:
        (head,) = (node["node_id"] for node in alive(cluster))
        join(cluster, 2)
        (worker,) = (node["node_id"] for node in alive(cluster) if node["node_id"] != head)
        job = cluster.submit(
            *("demo", *TINY, LENGTH, "speed.workers=[1,2]", "speed.cpus_per_worker=1"),
            *("run.checkpoint_every=100000it", "run.validate_every=100000it"),
            *(f"run.storage={folder}", "run.name=run", "run.tracking=off"),
            # not the job's copy, which Ray writes once more for the second raylet of one machine
            *(
                f"data.{part}={REPOSITORY}/mimray/photos/{part}-*.parquet"
                for part in ("train", "val")
            ),
            options=("--no-wait",),
        )
        one = Training(cluster, job.name, Finished(0, "", "", folder / "run"), worker)
        one.wait_for(lambda: len(one.attempts()) > 2)
        yield one


@pytest.mark.slow
def test_trainers_of_a_worker_write_a_checkpoint_and_go_on_elsewhere(training):
    assert len(training.run.record["starts"][0]["hosts"]) == 2
    training.leave("-c", ON_WORKER, str(LEAVE.parent), training.worker, "30")
    training.wait_for(lambda: training.attempts()[-1] > 0)
    first, second = training.run.record["starts"][:2]
    assert (first["workers"], second["workers"]) == (2, 1)
    assert second["step"] == training.attempts().count(0) > 2, "steps were lost"


@pytest.mark.slow
def test_a_job_of_the_head_fails_with_its_checkpoint_written_so_it_is_tried_again(training):
    """Not STOPPED, which KubeRay does not try again."""
    training.leave(str(LEAVE), "90")
    info = training.cluster.info(training.job)
    assert (info["status"], info["driver_exit_code"]) == ("FAILED", 75)
    record = training.run.record
    assert record["status"] == "stopped"
    assert record["checkpoint"] == f"checkpoints/step-{record['steps']:08d}"
    assert record["steps"] == len(training.attempts())
