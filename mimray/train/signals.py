"""A request to stop, from a terminal, a scheduler or `ray job stop`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """SIGTERM, SIGINT and SIGHUP set an event; a second one ends the process as usual."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def ask(number: int, frame: Any) -> None:
        if stopping.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopping.set()

    # a terminal that closes asks too, unless nohup has said that it shall not count
    asking = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    heeded = [s for s in asking if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, ask) for s in heeded}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
