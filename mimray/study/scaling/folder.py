"""`<storage>/studies/<name>/`: the study, what no run's folder can know of it, and its results."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from mimray.data.files import join, read_bytes, resolve
from mimray.errors import UserError
from mimray.evaluate.table_files import write_files
from mimray.study.placing import storage_of
from mimray.study.scaling.cells import FILE, Laid, as_yaml
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder, to_json

NOTES = "study.json"


class StudyFolder:
    """`study.json` is written by the study's driver alone; whatever else is known stands in the runs.

    `status`: waiting, running, or how the last start ended; `uid`, `began`, `mlflow_run_id`: for MLflow.
    `compared`: training pictures whose loss is measured, and `images`, those of each subset, once the data
    have been opened; `val`: validation pictures. `failures`: by name of the run, in which step and why.
    `seconds`: by name of the run and step, what it took, starts included, and when it `began`. `predicted`:
    in hours of the unit, by name of the run and step. `budget`, `chosen`: what was asked for, and the runs
    that it pays for; None for all.
    """

    def __init__(self, laid: Laid) -> None:
        self.study = laid.study
        self.place = join(storage_of(laid.cells[0]), "studies", laid.study.name)
        self.run = RunFolder(self.place)  # of which the fence is used, and the writing of files
        told = self._read()
        self.laid = laid
        self.uid: str = told.get("uid") or uuid.uuid4().hex
        self.began: float = told.get("began") or time.time()
        self.status: str = told.get("status", "waiting")
        self.mlflow_run_id: str | None = told.get("mlflow_run_id")
        self.compared: int = told.get("compared", 0)
        self.val: int = told.get("val", 0)
        self.images: dict[str, int] = told.get("images", {})
        self.params: dict[str, int] = told.get("params", {})
        self.failures: dict[str, dict[str, str]] = told.get("failures", {})
        self.seconds: dict[str, dict[str, dict[str, float]]] = told.get("seconds", {})
        self.predicted: dict[str, dict[str, float]] = told.get("predicted", {})
        self.unit: str = told.get("unit", "core-hours")
        self.reserved: dict[str, float] = told.get("reserved", {})
        self.budget: float | None = told.get("budget")
        self.chosen: list[str] | None = told.get("chosen")

    def _read(self) -> dict[str, Any]:
        file = join(self.place, NOTES)
        try:
            told = json.loads(read_bytes(*resolve(file)) or b"{}")
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{file} cannot be read: {reason}") from None
        if not isinstance(told, dict):
            raise UserError(f"{file} is not a study's record; remove it")
        return told

    def save(self) -> None:
        """Write what is known."""
        names = (
            *("uid", "began", "status", "mlflow_run_id", "compared", "val", "images", "params"),
            *("failures", "seconds", "predicted", "unit", "reserved", "budget", "chosen"),
        )
        told = {"name": self.study.name} | {name: getattr(self, name) for name in names}
        self.write({NOTES: to_json(told, indent=2).encode() + b"\n"})

    def begin(self) -> None:
        """The study is under way: what it is goes beside its notes, to be read from any folder."""
        own = {"run.storage": storage_of(self.laid.cells[0])}
        study = self.study.model_copy(update={"set": self.study.set | own})
        self.write({FILE: as_yaml(study).encode()})
        self.save()

    def write(self, files: dict[str, bytes]) -> None:
        """Each as a whole. Raises UserError where storage does not take them."""
        try:
            write_files(self.place, files)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.place}: cannot be written ({reason})") from None

    # ----- cells --------------------------------------------------------------------------------------

    def is_under_way(self, run: str, step: str) -> bool:
        """Whether a step was handed over by a driver that lives."""
        noted = self.seconds.get(run, {}).get(step, {})
        return "began" in noted and "seconds" not in noted and self.is_driven()

    def is_driven(self) -> bool:
        """Whether somebody runs the study now."""
        return self.status == "running" and not Fence(self.run).is_gone()

    def is_chosen(self, run: str) -> bool:
        """Whether a cell is run at all."""
        return self.chosen is None or run in self.chosen

    def note_begun(self, run: str, step: str) -> None:
        """A step of a cell has been handed over; what failed before may go well now."""
        self.failures.pop(run, None)
        self.seconds.setdefault(run, {})[step] = {"began": time.time()}
        self.save()

    def note_ended(self, run: str, step: str, reason: str | None) -> None:
        """It has come back; `reason`: why it failed."""
        noted = self.seconds[run][step]
        noted["seconds"] = time.time() - noted["began"]
        if reason is not None:
            self.failures[run] = {"step": step, "reason": reason}
        self.save()

    # ----- one driver at a time -------------------------------------------------------------------------

    def fence(self) -> Fence:
        """To be claimed by whoever runs the study."""
        self.run.make()
        return Fence(self.run)
