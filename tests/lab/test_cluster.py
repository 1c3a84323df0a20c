"""`ray up` with the project's cluster.yaml on two hosts, and a pre-training with a trainer on each."""

import socket

import pytest

from tests.lab.hosts import HEAD
from tests.train.runs import TINY, Finished

pytestmark = pytest.mark.lab


def test_the_job_server_is_reached_by_the_tunnel_only(cluster):
    with socket.socket() as knock:
        knock.settimeout(5)
        assert knock.connect_ex((HEAD, 8265)) != 0
    assert cluster.http("/api/jobs/")[0] == 401


def test_storage_of_one_host_is_refused(cluster):
    job = cluster.submit("demo", *TINY, "run.storage=/tmp/runs", "run.tracking=off")
    assert (job.info["status"], job.info["driver_exit_code"]) == ("FAILED", 2)
    assert "mimray: host h2: does not see run.storage (/tmp/runs/" in job.said


def test_two_trainers_train_on_two_hosts(cluster, folder):
    job = cluster.submit(
        *("demo", *TINY, "schedule.length=4it", "schedule.warmup=1it", "speed.workers=2"),
        *(f"run.storage={folder}/runs", "run.name=two"),
        f"run.tracking=sqlite:///{folder}/mlflow.db",
    )
    assert (job.info["status"], job.info["driver_exit_code"]) == ("SUCCEEDED", 0), job.said
    run = Finished(job.status, job.said, "", folder / "runs" / "two")
    assert run.record["status"] == "finished"
    assert [sorted(start["hosts"]) for start in run.record["starts"]] == [["h1", "h2"]]
    assert [row["step"] for row in run.rows] == [1, 2, 3, 4]
