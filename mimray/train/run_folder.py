"""A run's folder: `run.json`, `recipe.yaml`, `metrics.jsonl`, `checkpoints/`, `figures/`.

It is the truth about a run; MLflow and every table are derived from it. The driver writes
`run.json` and the figures, rank 0 the metrics and the checkpoints.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from pyarrow import fs

from mimray.data.files import absolute, join, read_bytes, resolve, write_atomic
from mimray.environment import project_folder, start_folder
from mimray.errors import TakenOver, UserError
from mimray.recipe import TrainingRecipe
from mimray.train.fence import check_token

_OURS = {"fence", "recipe.yaml", "metrics.jsonl", "checkpoints", "figures", "ray"}


class RunFolder:
    """Reads and writes a run's files under `uri`, on any pyarrow filesystem.

    `token`: of the fence that this process, or its driver, holds; a write raises TakenOver once another
    process holds it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri).rstrip("/")
        self.filesystem, self.path = resolve(self.uri)
        self.token: str | None = None

    @classmethod
    def of(cls, recipe: TrainingRecipe) -> RunFolder:
        """The folder of a recipe's run: `<run.storage>/<run.name>`."""
        storage = recipe.run.storage or str(project_folder() / "runs")
        if "://" not in storage:
            storage = str(start_folder() / Path(storage).expanduser())
        return cls(join(absolute(storage), recipe.run_name()))

    @property
    def local(self) -> bool:
        """Whether the run lies on a filesystem of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def file(self, name: str) -> str:
        """Path of a file of the run in its filesystem."""
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None where there is none."""
        return read_bytes(self.filesystem, self.file(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole."""
        self.check_token()
        write_atomic(self.filesystem, self.file(name), data)

    def check_token(self) -> None:
        """Raises TakenOver if another process writes this run now."""
        while (token := self.token) is not None:
            try:
                check_token(self.filesystem, self.file("fence"), token)
                return
            except TakenOver:
                if self.token == token:  # else the driver has renewed it while we looked
                    raise

    def check_free(self) -> None:
        """Raises UserError if the folder is somebody else's, or nothing can be written to it.

        Leaves nothing behind.
        """
        if self.record() is None:
            selector = fs.FileSelector(self.path, allow_not_found=True)
            try:
                found = {info.base_name for info in self.filesystem.get_file_info(selector)}
            except OSError as error:
                raise UserError(f"run.storage: {self.uri}: {_first_line(error)}") from None
            if strange := sorted(name for name in found - _OURS if not name.startswith(".")):
                raise UserError(
                    f"run.name: {self.uri} is there and is no run (it holds {strange[0]}); "
                    f"choose another run.name"
                )
        made = self.make()
        try:
            self.write(".writable", b"")
            self.filesystem.delete_file(self.file(".writable"))
        except OSError as error:
            raise UserError(
                f"run.storage: {self.uri} cannot be written ({_first_line(error)}); name another place"
            ) from None
        finally:
            remove_empty(made)

    def make(self) -> list[Path]:
        """Create the folder; returns the local folders that were not there, the outermost first."""
        if not self.local:
            return []
        path = Path(self.path)
        missing = [p for p in (path, *path.parents) if not p.exists()][::-1]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remove_empty([p for p in missing if p.exists()])
            raise UserError(
                f"run.storage: {self.uri} cannot be written ({_first_line(error)}); name another place"
            ) from None
        return missing

    # ----- run.json -------------------------------------------------------------------------------

    def record(self) -> dict[str, Any] | None:
        """`run.json`, or None for a run that never started."""
        place = join(self.uri, "run.json")
        try:
            data = self.read("run.json")
            record = None if data is None else json.loads(data)
        except (ValueError, OSError) as error:
            raise UserError(f"{place} cannot be read: {_first_line(error)}") from None
        if record is not None and not (isinstance(record, dict) and "recipe_digest" in record):
            raise UserError(f"{place} is not a run's record")
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace `run.json`."""
        self.write("run.json", to_json(record, indent=2).encode() + b"\n")

    # ----- metrics.jsonl --------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """All rows of `metrics.jsonl`; a last line that was cut off by a crash is left out."""
        lines = (self.read("metrics.jsonl") or b"").split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def keep_rows_until(self, step: int) -> None:
        """Forget rows after a step: they are about to be trained again."""
        rows = [row for row in self.rows() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(to_json(row) + "\n" for row in rows).encode())

    def append_rows(self, rows: list[dict[str, Any]]) -> None:
        """Add rows to `metrics.jsonl` and make them durable."""
        data = "".join(to_json(row) + "\n" for row in rows).encode()
        if not data:
            return
        if not self.local:  # object stores cannot append
            self.write("metrics.jsonl", (self.read("metrics.jsonl") or b"") + data)
            return
        self.check_token()
        path = Path(self.file("metrics.jsonl"))
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # half a row would garble those after it
            if path.exists():
                os.truncate(path, size)
            raise


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, given the outermost first, as far as nothing is in them."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in which what is not finite becomes null, for JSON has no such numbers."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
