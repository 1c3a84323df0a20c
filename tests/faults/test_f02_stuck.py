"""F2: a trainer that is stopped, or whose step does not end: noticed in a minute, and started again."""

import os
import signal
import time

import pytest

from tests.faults.harness import Run, assert_same, wait_until

pytestmark = pytest.mark.faults


def restarted_within(run: Run, seconds: float) -> float:
    """Seconds from the fault to the driver's event, which must come in time."""
    began = time.monotonic()
    wait_until(lambda: run.record().get("events"), seconds, run)
    return time.monotonic() - began


def test_a_stopped_trainer(tmp_path, reference):
    run = Run(tmp_path, ["speed.workers=2"]).start()
    run.wait_for_step(10)
    stopped = run.trainers()[0]
    os.kill(stopped, signal.SIGSTOP)
    noticed = restarted_within(run, 60)
    done = run.finish()
    assert_same(run, done, reference)
    (event,) = done.record["events"]
    assert event["what"] == "trainers ended" and "no sign of life for 40 s" in event["why"]
    assert 30 < noticed < 60
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


@pytest.mark.long
def test_a_step_that_does_not_end(tmp_path, reference):
    hang = {"step": 12, "rank": 1, "place": "all_reduce", "action": "hang"}
    run = Run(tmp_path, ["speed.workers=2"], [hang]).start()
    run.wait_for_step(10)
    restarted_within(run, 80)
    done = run.finish()
    assert_same(run, done, reference)
    (event,) = done.record["events"]
    assert event["why"] == "no step has ended for 55 s" and event["ranks"] == [0, 1]
