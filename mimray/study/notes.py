"""`<storage>/<kinds>/<name>/`: what no run's own folder can know of its sweep or study, and the results."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from mimray.data.files import join
from mimray.errors import UserError
from mimray.evaluate.table_files import write_files
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder, remove_empty, to_json


class Notes:
    """`<kind>.json`, written by one driver alone; whatever else is known stands in `run.json` of the runs.

    A subclass names its `fields` and what each is at first. `uid`, `began`, `mlflow_run_id`: for MLflow.
    """

    kind: ClassVar[str]
    fields: ClassVar[dict[str, Any]]
    uid: str
    began: float
    mlflow_run_id: str | None

    def __init__(self, storage: str, folder: str, name: str) -> None:
        """Raises UserError for a record that cannot be read."""
        self.name = name
        self.place = join(storage, folder, name)
        self.files = RunFolder(self.place)
        self.lock = threading.RLock()  # a thread that MLflow answers saves too
        self.read()

    @property
    def file(self) -> str:
        """The record's name in the folder."""
        return f"{self.kind}.json"

    def read(self) -> None:
        """What the last driver left. Raises UserError for what is damaged."""
        where = join(self.place, self.file)
        try:
            told = json.loads(self.files.read(self.file) or b"{}")
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{where} cannot be read: {reason}") from None
        if not isinstance(told, dict):
            raise UserError(f"{where} is not a {self.kind}'s record; remove it")
        self.uid = told.get("uid") or uuid.uuid4().hex
        self.began = told.get("began") or time.time()
        self.mlflow_run_id = told.get("mlflow_run_id")
        for name, first in self.fields.items():
            setattr(self, name, told.get(name, first() if callable(first) else first))

    def save(self) -> None:
        """Write what is known."""
        names = ("name", "uid", "began", "mlflow_run_id", *self.fields)
        with self.lock:
            told = {name: getattr(self, name) for name in names}
            self.write({self.file: to_json(told, indent=2).encode() + b"\n"})

    def write(self, files: dict[str, bytes]) -> None:
        """Each as a whole. Raises UserError where storage does not take them."""
        try:
            write_files(self.place, files)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.place}: cannot be written ({reason})") from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other drivers out, for the time of the block; what the last one found is read again.

        Raises UserError where one is at work.
        """
        made, fence = self.files.make(), Fence(self.files)
        try:
            try:
                fence.claim()
            except UserError:
                raise UserError(
                    f"{self.kind} {self.name} is under way in another process; wait for it, or give this "
                    f"one another name"
                ) from None
            self.read()
            yield
        finally:
            if self.files.read(self.file) is None:  # nothing is left of what never began
                fence.withdraw()
                remove_empty(made)
            fence.release()
