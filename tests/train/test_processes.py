"""Processes of a host: which may be ended, and which are somebody's own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mimray.train.processes import end, end_workers_of, start_time

pytestmark = pytest.mark.unit

HOLD = "import sys, time; f = open(sys.argv[1], 'w'); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def hold():
    """Start a process that has a file open, with something in its environment."""
    started = []

    def start(file, **env):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(file)],
            env=os.environ | env,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_workers_of_a_session_are_ended_and_no_others(tmp_path, hold):
    for name in ("session", "session2"):
        (tmp_path / name).mkdir()
    worker = hold(tmp_path / "session/worker.log", RAY_RAYLET_PID="1")
    reader = hold(tmp_path / "session/read.log")  # somebody looks at a log
    other = hold(tmp_path / "session2/worker.log", RAY_RAYLET_PID="1")
    end_workers_of(tmp_path / "session")
    assert worker.wait(5) == -signal.SIGKILL
    time.sleep(0.2)
    assert reader.poll() is None and other.poll() is None


def test_a_worker_whose_session_s_folder_is_gone_is_found(tmp_path, hold):
    (tmp_path / "session").mkdir()
    worker = hold(tmp_path / "session/worker.log", RAY_RAYLET_PID="1")
    (tmp_path / "session/worker.log").unlink()
    end_workers_of(tmp_path / "session")
    assert worker.wait(5) == -signal.SIGKILL


def test_a_later_process_of_that_number_is_left_alone(tmp_path, hold):
    child = hold(tmp_path / "file")
    began = start_time(child.pid)
    end(child.pid, began + 1)
    assert child.poll() is None
    end(child.pid, began)
    assert child.wait(5) == -signal.SIGKILL and start_time(child.pid) is None
