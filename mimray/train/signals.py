"""A request to stop, from a terminal, a scheduler or `ray job stop`.

SIGTERM, SIGINT and SIGHUP ask; a second one ends the process as usual.
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
    """A request sets an event: for those who look at it, and end in good order."""
    stopping = threading.Event()
    with _asked(stopping.set):
        yield stopping


@contextmanager
def leave_on_request() -> Iterator[None]:
    """A request leaves the block at once, as SystemExit: libraries let it through, and everything on the
    way is closed.

    Whoever starts or joins a Ray enters it again: Ray puts handlers of its own in place, one of which writes
    a stack trace and aborts.
    """
    asked = threading.Event()

    def leave() -> None:
        asked.set()
        raise SystemExit(Stopped.exit_code)

    with _asked(leave):
        try:
            yield
        except Stopped:
            raise
        except Exception:  # what a library that was being imported, or computed, made of it
            if asked.is_set():
                raise SystemExit(Stopped.exit_code) from None
            raise


@contextmanager
def _asked(answer: Callable[[], None]) -> Iterator[None]:
    """`answer()` is called at the first request, in the main thread; elsewhere nobody can ask."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        for known in before:
            signal.signal(known, signal.SIG_DFL)
        answer()

    # a terminal that closes asks too, unless nohup has said that it shall not count
    asking = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    heeded = [s for s in asking if signal.getsignal(s) is not signal.SIG_IGN]
    before: dict[signal.Signals, Any] = {}
    try:
        for number in heeded:
            before[number] = signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
