"""MLflow's copy of a run while it goes on: a thread of the driver that never makes it wait.

A server that does not answer costs the copy, not the run. Rows lie in the run's folder anyway, so
few wait in memory, and what was missed is read from there once the server is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mimray.tracking import Copy, Head, count_not_finite, reason
from mimray.train.run_folder import RunFolder
from mimray.train.spool import files, rows_after

log = logging.getLogger("mimray")
_RETRY_SECONDS = 5.0
_LAST_WORDS_SECONDS = 20.0  # how long the end of a run waits for a server
_ROWS_WAITING = 10_000  # more than can be on their way to the folder
_PICTURES_WAITING = 4


class Tracker:
    """Writes one run to MLflow; every method but `finish` returns at once.

    `run_id`: MLflow's, of an earlier start of the run, or None; it is known once the server has
    answered.
    """

    def __init__(self, run: RunFolder, head: Head, run_id: str | None = None) -> None:
        self.run, self.head, self.run_id = run, head, run_id
        self._rows: deque[dict[str, Any]] = deque(maxlen=_ROWS_WAITING)
        self._pictures: deque[tuple[bytes, str, int]] = deque(maxlen=_PICTURES_WAITING)
        self._lock = threading.Lock()  # of both
        self._end: tuple[str, float] | None = None  # status and time
        self._copy: Copy | None = None
        self._behind = True  # whether rows are missed that only the folder has
        self._lacking = False  # whether a file did not arrive
        self._news, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        if self.on:
            self._news.set()  # MLflow's run shall be there before the first row
            self._thread.start()

    @property
    def on(self) -> bool:
        """Whether the run is tracked at all."""
        return self.head.uri != "off"

    # ----- called by the driver -------------------------------------------------------------------

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Log rows that are in `metrics.jsonl`, or soon will be."""
        with self._lock:
            if len(self._rows) + len(rows) > _ROWS_WAITING:
                self._behind = True
            self._rows.extend(rows)
        self._news.set()

    def missed_some(self) -> None:
        """Rows may have been written that were never handed over: the folder has them."""
        with self._lock:
            self._behind = True

    def picture(self, png: bytes, key: str, images: int) -> None:
        """Log a picture that MLflow shows with a slider over steps; the oldest wait in vain."""
        with self._lock:
            self._pictures.append((png, key, images))
        self._news.set()

    def finish(self, status: str) -> bool:
        """Deliver what is left, and the run's status as in `run.json`; returns whether all arrived.

        Waits a while for a server that does not answer.
        """
        if not self.on:
            return True
        self._end = status, time.time()
        self._news.set()
        self._thread.join(_LAST_WORDS_SECONDS)
        self._given_up.set()
        delivered = not self._thread.is_alive() and not self._lacking
        if not delivered:
            log.warning(
                "MLflow at %s lacks some of this run, which is whole in its folder; "
                "`mimray runs sync` delivers it later",
                self.head.uri,
            )
        return delivered

    # ----- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        away = False
        while not self._given_up.is_set():
            self._news.wait()
            self._news.clear()
            end = self._end  # before the rows are looked at: all that it ends are there by then
            try:
                self._deliver(end)
            except Exception as error:  # MLflow raises of every kind; none may stop the run
                if not away:
                    log.warning("MLflow at %s: %s; trying on", self.head.uri, reason(error))
                away, self._copy, self._behind = True, None, True
                self._news.set()
                self._given_up.wait(_RETRY_SECONDS)
                continue
            away = False
            if end is not None:
                return

    def _deliver(self, end: tuple[str, float] | None) -> None:
        if self._copy is None:
            first = self.run_id is None
            self._copy = Copy(self.head, self.run_id)
            self.run_id = self._copy.run_id
            if end is None:
                self._copy.reopen()
            if first:
                self._send_files()
        with self._lock:  # what is dropped from here on is for the next time
            rows, pictures = list(self._rows), list(self._pictures)
            behind, self._behind = self._behind, False
            self._pictures.clear()  # each has one chance, for a second may show it twice
        if behind:
            self._copy.rows(rows_after(self.run, self._copy.delivered))
        self._copy.rows(rows)
        with self._lock:  # only now: the folder may not have them yet
            while self._rows and self._rows[0]["step"] <= self._copy.delivered:
                self._rows.popleft()
        for picture in pictures:
            self._try(self._copy.picture, *picture)
        if end is not None:
            self._copy.close(end[0], count_not_finite(rows_after(self.run, -1)), end[1])
            self._lacking = not self._send_files()

    def _send_files(self) -> bool:
        assert self._copy is not None
        sent = [self._try(self._copy.file, *file) for file in files(self.run)]
        return all(sent)

    def _try(self, send: Callable[..., None], *content: Any) -> bool:
        """Files go to a place of their own, which may be gone while metrics arrive."""
        try:
            send(*content)
        except Exception as error:
            log.debug("MLflow at %s takes no files: %s", self.head.uri, error)
            return False
        return True
