"""F3: the driver, or Ray itself, is lost; the same command goes on from the last checkpoint."""

import os
import signal

import pytest

from tests.faults.harness import STEPS, Run, assert_same, cmdline, family

pytestmark = pytest.mark.faults


def goes_on(run: Run, reference, at_least: int) -> None:
    """The same command, which does not start from nothing."""
    done = run.start().finish()
    assert_same(run, done, reference)
    starts = [start["step"] for start in done.record["starts"]]
    assert starts[0] == 0 and starts[1] >= at_least
    trained_again = starts[1] < STEPS  # trainers may have come to the end before they noticed
    assert {row["attempt"] for row in done.rows} == ({0, 1} if trained_again else {0})


def test_everything_is_killed(tmp_path, reference):
    run = Run(tmp_path, ["speed.workers=2"]).start()
    run.wait_for_step(15)
    run.kill()
    assert run.record()["status"] == "running"
    goes_on(run, reference, 15)


@pytest.mark.long
def test_only_the_driver_is_killed(tmp_path, reference):
    run = Run(tmp_path, ["speed.workers=2"]).start()
    run.wait_for_step(15)
    left = family(run.process.pid)[1:]
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    goes_on(run, reference, 15)
    assert not [pid for pid in left if b"RayTrainWorker" in cmdline(pid)], (
        "trainers outlived the run"
    )


@pytest.mark.long
def test_ray_ends_under_the_run(tmp_path, reference):
    run = Run(tmp_path, ["speed.workers=2"]).start()
    run.wait_for_step(15)
    servers = [p for p in family(run.process.pid) if b"gcs_server" in cmdline(p)]
    assert len(servers) == 1
    os.kill(servers[0], signal.SIGKILL)
    done = run.finish(timeout=150)
    assert done.status not in (0, 2, 75)
    goes_on(run, reference, 15)
