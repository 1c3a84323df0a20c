"""A request to stop, from a terminal, a scheduler or `ray job stop`.

A second one ends the process as usual.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mimray.errors import Stopped


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """SIGTERM, SIGINT and SIGHUP set an event: for who looks at it, and ends in good order."""
    stopping = threading.Event()
    with _asked([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], stopping.set):
        yield stopping


@contextmanager
def leave_on_request() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block at once, as SystemExit, which libraries let through as they do
    Python's own answer to SIGINT: what is open on the way is closed.

    Ray puts handlers of its own in place when it starts, one of which aborts; so who has started or joined
    one enters this again.
    """
    asked = threading.Event()

    def leave() -> None:
        asked.set()
        raise SystemExit(Stopped.exit_code)

    with _asked([signal.SIGTERM, signal.SIGHUP], leave):
        try:
            yield
        except Stopped:
            raise
        except Exception:
            if asked.is_set():  # a library, as one that was being imported, has made this of it
                raise SystemExit(Stopped.exit_code) from None
            raise


@contextmanager
def _asked(asking: list[signal.Signals], answer: Callable[[], None]) -> Iterator[None]:
    """The first signal calls `answer`, in the main thread; in another one nobody can ask."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        for known in before:
            signal.signal(known, signal.SIG_DFL)
        answer()

    # a terminal that closes asks too, unless nohup has said that it shall not count
    heeded = [s for s in asking if signal.getsignal(s) is not signal.SIG_IGN]
    before: dict[signal.Signals, Any] = {}
    try:
        for number in heeded:
            before[number] = signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
