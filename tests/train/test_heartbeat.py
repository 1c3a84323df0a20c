"""Who is ended by the watchdog, and who is left alone."""

import os
import subprocess
import time

import pytest

from mimray.train import processes
from mimray.train.heartbeat import Beat, Heart, Watchdog

pytestmark = pytest.mark.unit


def beat(rank=0, seconds=0.0, median=1.0, doing="step") -> Beat:
    return Beat(rank, 100 + rank, 7, "node", seconds, median, doing)


def verdict(beats, heard=0.0, now=1.0):
    watchdog = Watchdog()
    watchdog.hear(beats, heard)
    return watchdog.verdict(now)


def test_a_trainer_without_beats_is_ended_alone_within_a_minute():
    watchdog = Watchdog()
    watchdog.hear([beat(0), beat(1)], 0.0)
    watchdog.hear([beat(0)], 41.0)
    assert watchdog.verdict(39.0) is None
    ended, why = watchdog.verdict(41.0)
    assert [b.rank for b in ended] == [1] and "trainer 1 has given no sign of life for 40 s" in why


def test_a_step_that_does_not_end_ends_all():
    assert verdict([beat(0, 54.0), beat(1, 54.0)]) is None
    ended, why = verdict([beat(0, 56.0), beat(1, 56.0)])
    assert [b.rank for b in ended] == [0, 1] and why == "no step has ended for 55 s"


def test_long_steps_have_ten_times_the_median():
    assert verdict([beat(0, 290.0, median=30.0)]) is None
    assert verdict([beat(0, 310.0, median=30.0)])[1] == "no step has ended for 300 s"


@pytest.mark.parametrize("doing", ["start", "pause"])
def test_nothing_is_expected_before_the_first_step_and_while_one_validates_or_saves(doing):
    assert verdict([beat(0, 999.0), beat(1, 999.0, doing=doing)]) is None
    assert verdict([beat(0, 999.0, median=0.0)]) is None  # compiling, say


def test_one_that_waits_for_pictures_gets_more_time():
    waiting = [beat(0, 500.0), beat(1, 500.0, doing="data")]
    assert verdict(waiting) is None
    late = [beat(0, 601.0), beat(1, 601.0, doing="data")]
    assert verdict(late)[1] == "no pictures have come for 600 s"


def test_trainers_that_are_done_or_were_ended_are_not_waited_for():
    watchdog = Watchdog()
    watchdog.hear([beat(0), beat(1)], 0.0)
    watchdog.hear([beat(1, doing="over")], 1.0)
    assert [b.rank for b in watchdog.verdict(100.0)[0]] == [0]
    watchdog.forget()
    watchdog.hear([beat(0)], 2.0)  # which was on its way
    assert watchdog.verdict(200.0) is None


def test_a_heart_measures_steps_without_their_pauses():
    heart = Heart(None, 0)
    heart.computing()
    with heart.pause():
        assert heart.doing == "pause"
        time.sleep(0.2)
    assert heart.doing == "step"
    heart.step_ended()
    assert heart.doing == "data" and heart.steps[0] < 0.15


def test_only_the_process_that_was_meant_is_ended():
    child = subprocess.Popen(["sleep", "60"])
    began = processes.start_time(child.pid)
    processes.end(child.pid, began + 1)  # another one, of the same number
    assert child.poll() is None
    processes.end(child.pid, began)
    assert child.wait(5) == -9
    assert processes.start_time(child.pid) is None
    processes.end(child.pid, began)  # long gone: nothing happens


def test_a_process_that_ended_and_nobody_waited_for_is_gone():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.start_time(child.pid) is None
    child.wait()
