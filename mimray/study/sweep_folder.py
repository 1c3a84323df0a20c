"""`<storage>/sweeps/<name>/`: what no run's own folder can know of its sweep, and the results."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mimray.data.files import join
from mimray.errors import UserError
from mimray.evaluate.table_files import write_files
from mimray.study.grid import Cell
from mimray.study.placing import storage_of
from mimray.study.sweep import Sweep
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder, remove_empty, to_json

Curve = list[list[float]]
"""[progress, score] of every validation."""

_RECORD = "sweep.json"


class SweepFolder:
    """`sweep.json`, written by the sweep's driver alone; whatever else is known stands in `run.json` of the
    runs.

    `stopped`: by name of the run, {"by", "step", "curve"} of trials that promised less than others;
    `failures`: why others failed, in a line.
    """

    def __init__(self, sweep: Sweep, cells: list[Cell]) -> None:
        self.sweep = sweep
        self.place = join(storage_of(cells[0]), "sweeps", sweep.name)
        self.files = RunFolder(self.place)
        self._lock = threading.Lock()
        self._read()

    def _read(self) -> None:
        file = join(self.place, _RECORD)
        try:
            told = json.loads(self.files.read(_RECORD) or b"{}")
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{file} cannot be read: {reason}") from None
        if not isinstance(told, dict):
            raise UserError(f"{file} is not a sweep's record; remove it")
        self.uid: str = told.get("uid") or uuid.uuid4().hex
        self.began: float = told.get("began") or time.time()
        self.mlflow_run_id: str | None = told.get("mlflow_run_id")
        self.stopped: dict[str, dict[str, Any]] = told.get("stopped", {})
        self.failures: dict[str, str] = told.get("failures", {})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other drivers of this sweep out, for the time of the block; what the last one found is read
        again. Raises UserError where one is at work."""
        made, fence = self.files.make(), Fence(self.files)
        try:
            try:
                fence.claim()
            except UserError:
                raise UserError(
                    f"sweep {self.sweep.name} is under way in another process; wait for it, or give this "
                    f"one another name"
                ) from None
            self._read()
            yield
        finally:
            if self.files.read(_RECORD) is None:  # nothing is left of a sweep that never began
                fence.withdraw()
                remove_empty(made)
            fence.release()

    def save(self) -> None:
        """Write what is known."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        told = {
            "name": self.sweep.name,
            "uid": self.uid,
            "began": self.began,
            "mlflow_run_id": self.mlflow_run_id,
            "stopped": self.stopped,
            "failures": self.failures,
        }
        self.write({_RECORD: to_json(told, indent=2).encode() + b"\n"})

    def write(self, files: dict[str, bytes]) -> None:
        """Each as a whole. Raises UserError where storage does not take them."""
        try:
            write_files(self.place, files)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.place}: cannot be written ({reason})") from None

    # ----- trials -------------------------------------------------------------------------------------

    def was_stopped(self, cell: Cell) -> bool:
        """Whether a trial was ended by the rule that the sweep has now; by another, or none, it goes on."""
        rule, known = self.sweep.stop, self.stopped.get(cell.name)
        return rule is not None and known is not None and known["by"] == rule.model_dump()

    def note_stopped(self, run: str, step: int, curve: Curve) -> None:
        """A trial promised less than others."""
        assert self.sweep.stop is not None
        with self._lock:  # a thread that MLflow answers writes too
            self.stopped[run] = {"by": self.sweep.stop.model_dump(), "step": step, "curve": curve}
            self._save()

    def note_failed(self, run: str, reason: str | None) -> None:
        """Why a trial cannot go on; None for one that has."""
        with self._lock:
            if reason is not None:
                self.failures[run] = reason
            elif self.failures.pop(run, None) is None:
                return
            self._save()
