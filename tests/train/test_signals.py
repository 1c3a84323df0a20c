"""Requests to stop, in this very process and in one that ends by them."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mimray.errors import Stopped
from mimray.train.signals import leave_on_request, stop_signals

pytestmark = pytest.mark.unit
ASKED = [signal.SIGTERM, signal.SIGHUP]


def ask(number: int) -> None:
    os.kill(os.getpid(), number)


def handlers() -> list:
    return [signal.getsignal(number) for number in (*ASKED, signal.SIGINT)]


@pytest.mark.parametrize("number", ASKED)
def test_a_request_leaves_what_is_under_way_and_closes_it(number):
    before, closed = handlers(), []
    with pytest.raises(SystemExit) as left, leave_on_request():
        try:
            ask(number)
            time.sleep(60)
        finally:
            closed.append(number)
    assert left.value.code == Stopped.exit_code
    assert closed == [number] and handlers() == before


def test_what_a_library_makes_of_it_is_not_shown():
    with pytest.raises(SystemExit), leave_on_request():
        try:
            ask(signal.SIGTERM)
        except BaseException as error:  # as an extension does while it is imported
            raise ImportError("failed to import") from error


def test_errors_that_nobody_asked_for_are_shown():
    with pytest.raises(ImportError), leave_on_request():
        raise ImportError("failed to import")


def test_who_ends_in_good_order_says_so_himself():
    before = handlers()
    with pytest.raises(Stopped, match="at step 5"), leave_on_request(), stop_signals() as stopping:
        ask(signal.SIGTERM)
        assert stopping.wait(5)
        raise Stopped("stopped at step 5")
    assert handlers() == before


def test_entered_again_it_answers_although_another_has_put_its_own_handler_in_place():
    before = handlers()
    with pytest.raises(SystemExit) as left, leave_on_request():
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # as Ray does
        with leave_on_request():
            ask(signal.SIGTERM)
    assert left.value.code == Stopped.exit_code
    assert handlers() == before


def test_one_that_is_ignored_stays_so():
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leave_on_request():
            ask(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_touched():
    before, seen = handlers(), []

    def run() -> None:
        with leave_on_request(), stop_signals():
            seen.append(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("kind", ["leave_on_request", "stop_signals"])
def test_a_second_request_ends_the_process_as_usual(kind):
    code = (
        "import os, signal, time\n"
        f"from mimray.train.signals import {kind}\n"
        f"with {kind}():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGTERM
