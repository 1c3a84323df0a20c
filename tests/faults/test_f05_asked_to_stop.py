"""F5: a signal with a grace period: a checkpoint of this very step, exit 75, nothing lost."""

import os
import signal
import time

import pytest

from tests.faults.harness import Run, assert_same

pytestmark = pytest.mark.faults
GRACE = 30.0


def process(run: Run) -> None:
    """As `kill PID`."""
    run.process.send_signal(signal.SIGTERM)


def group(run: Run) -> None:
    """As `timeout` and batch systems."""
    os.killpg(run.process.pid, signal.SIGTERM)


def terminal(run: Run) -> None:
    """As a terminal that closes."""
    os.killpg(run.process.pid, signal.SIGHUP)


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(process, marks=pytest.mark.long),  # tests/jobs asks so too
        group,
        pytest.param(terminal, marks=pytest.mark.long),
    ],
)
def test_a_request_to_stop_leaves_a_checkpoint_and_exit_75(tmp_path, reference, asks):
    run = Run(tmp_path, ["speed.workers=2"]).start()
    run.wait_for_step(5)
    asked = time.monotonic()
    asks(run)
    stopped = run.finish(timeout=60)
    assert stopped.status == 75, stopped.err
    assert time.monotonic() - asked < GRACE
    record = run.record()
    assert record["status"] == "stopped"
    assert record["checkpoint"] == f"checkpoints/step-{record['steps']:08d}"
    assert record["steps"] == stopped.rows[-1]["step"], "a step was lost"

    done = run.start().finish()
    assert_same(run, done, reference)
    assert done.record["starts"][1]["step"] == record["steps"]
