"""MLflow's copy of a sweep or study: a run above its runs. Whatever MLflow lacks, none fails.

Ray Tune's own callback makes flat runs. Here each run is written by itself, as any pre-training is, and
only laid below its parent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from mimray.recipe.running import Run
from mimray.study.cell import Cell
from mimray.study.notes import Notes
from mimray.tracking import Copy, Head, Parent, reason
from mimray.train.parent import store_of
from mimray.train.run_folder import RunFolder
from mimray.train.spool import head_of

log = logging.getLogger("mimray")
_LAST_WORDS_SECONDS = 20.0


class ParentCopy:
    """Every method but `close` returns at once: a thread asks MLflow, for runs wait for their driver.

    `params`: of the parent; `run`: of a cell's recipe, for all have one store; `title`: what the pages are
    to call a cell's run.
    """

    def __init__(
        self, notes: Notes, params: dict[str, str], run: Run, title: Callable[[Cell], str]
    ) -> None:
        self.notes, self.title = notes, title
        self.uri = store_of({"run": {"tracking": run.tracking}})
        self.head = Head(
            uid=notes.uid,
            uri=self.uri,
            experiment=run.experiment,
            name=notes.name,
            params=params,
            tags={"mimray.kind": notes.kind, "mimray.run_dir": notes.place},
            constants={},
            began=notes.began,
        )
        self._copy: Copy | None = None
        self._adopted: set[str] = set()
        self._pool = ThreadPoolExecutor(1, "tracking")
        self._away = False
        self._do(self._open)

    def adopt(self, cell: Cell) -> None:
        """Lay a cell's run below the parent, as soon as MLflow has both."""
        self._do(lambda: self._adopt(cell))

    def close(
        self,
        cells: Sequence[Cell],
        status: str,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """What came out of it. Waits a while for a server that does not answer."""
        for cell in cells:
            self.adopt(cell)
        last = self._pool.submit(self._try, lambda: self._close(status, metrics, files))
        wait([last], _LAST_WORDS_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ----- the thread ---------------------------------------------------------------------------------

    def _do(self, work: Callable[[], object]) -> None:
        self._pool.submit(self._try, work)

    def _try(self, work: Callable[[], object]) -> None:
        if self.uri == "off":
            return
        try:
            work()
        except Exception as error:  # MLflow raises of every kind
            if not self._away:
                log.warning(
                    "MLflow at %s lacks some of %s: %s", self.uri, self.notes.name, reason(error)
                )
            self._away = True

    def _open(self) -> Copy:
        if self._copy is None:
            self._copy = Copy(self.head, self.notes.mlflow_run_id)
            self._copy.reopen()
            self.notes.mlflow_run_id = self._copy.run_id
            self.notes.save()
        return self._copy

    def _adopt(self, cell: Cell) -> None:
        record = cell.record()
        if record is None or not record.get("mlflow_run_id") or cell.name in self._adopted:
            return
        head = head_of(RunFolder.of(cell.recipe), record)
        below = replace(head, parent=Parent(self._open().run_id, 0))
        Copy(below, record["mlflow_run_id"]).rename(self.title(cell))
        self._adopted.add(cell.name)

    def _close(self, status: str, metrics: Mapping[str, float], files: Mapping[str, bytes]) -> None:
        copy, now = self._open(), time.time()
        step = copy.delivered + 1  # another end of the same parent is another point
        rows: list[dict[str, Any]] = [{"step": step, "images": step, "time": now, **metrics}]
        copy.rows(rows if metrics else [])
        for name, data in files.items():
            copy.file(name, data)
        copy.close(status, 0, now)
