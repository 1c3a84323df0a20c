"""MLflow's copy of a sweep: a run of its own, below which its trials lie. Whatever it lacks, none fails.

Ray Tune's own callback makes flat runs. Here each trial's run is written by the trial, as that of any
pre-training, and only laid below the sweep's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from mimray.study.grid import Cell
from mimray.study.sweep import Sweep
from mimray.study.sweep_folder import SweepFolder
from mimray.tracking import Copy, Head, Parent
from mimray.train.parent import store_of
from mimray.train.run_folder import RunFolder
from mimray.train.spool import head_of

log = logging.getLogger("mimray")
_LAST_WORDS_SECONDS = 20.0


class SweepCopy:
    """Every method but `close` returns at once: a thread asks MLflow, for trials wait for their driver."""

    def __init__(self, sweep: Sweep, cells: list[Cell], folder: SweepFolder) -> None:
        run = cells[0].recipe.run
        self.folder = folder
        self.uri = store_of({"run": {"tracking": run.tracking}})
        self.head = Head(
            uid=folder.uid,
            uri=self.uri,
            experiment=run.experiment,
            name=sweep.name,
            params={
                "recipe": sweep.recipe,
                "objective": sweep.objective,
                "search": sweep.search,
                "trials": str(len(cells)),
                **{name: _values(sweep, name) for name in sweep.names},
            },
            tags={"mimray.kind": "sweep", "mimray.run_dir": folder.place},
            constants={},
            began=folder.began,
        )
        self._copy: Copy | None = None
        self._adopted: set[str] = set()
        self._pool = ThreadPoolExecutor(1, "tracking")
        self._away = False
        self._do(self._open)

    def adopt(self, cell: Cell) -> None:
        """Lay a trial's run below the sweep's, as soon as MLflow has both."""
        self._do(lambda: self._adopt(cell))

    def close(
        self,
        cells: list[Cell],
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
                reason = (str(error) or type(error).__name__).splitlines()[0]
                log.warning("MLflow at %s lacks some of this sweep: %s", self.uri, reason)
            self._away = True

    def _open(self) -> Copy:
        if self._copy is None:
            self._copy = Copy(self.head, self.folder.mlflow_run_id)
            self._copy.reopen()
            self.folder.mlflow_run_id = self._copy.run_id
            self.folder.save()
        return self._copy

    def _adopt(self, cell: Cell) -> None:
        record = cell.record()
        if record is None or not record.get("mlflow_run_id") or cell.name in self._adopted:
            return
        head = head_of(RunFolder.of(cell.recipe), record)
        Copy(replace(head, parent=Parent(self._open().run_id, 0)), record["mlflow_run_id"])
        self._adopted.add(cell.name)

    def _close(self, status: str, metrics: Mapping[str, float], files: Mapping[str, bytes]) -> None:
        copy, now = self._open(), time.time()
        step = copy.delivered + 1  # another end of the same sweep is another point
        rows: list[dict[str, Any]] = [{"step": step, "images": step, "time": now, **metrics}]
        copy.rows(rows if metrics else [])
        for name, data in files.items():
            copy.file(name, data)
        copy.close(status, 0, now)


def _values(sweep: Sweep, name: str) -> str:
    known = [value for grid in sweep.grid for value in grid.get(name, [])]
    return " ".join(map(str, dict.fromkeys(map(str, known))))
