"""The table of a study: a run a row, as a CSV or Parquet file or in a study's folder.

Needed are the columns `model`, `data`, `iterations`, `val_loss` and `top1`, under these or mimray's own
names; `train_loss`, `params`, `images`, `source` and the scores of other tasks are taken where they stand.
Other columns are left alone. A cell without a number is one that has not been measured.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimray.errors import UserError
from mimray.study.reading.sizes import known_images, known_parameters, split_share

Pair = tuple[str, str]
"""A model and the data that it was trained on, whatever the length."""

TOP1 = "top1"
LEAST_RUNS = 3  # two points lie on a line whatever they are

_NEEDED = {
    "model": ("encoder", "model.encoder"),
    "data": ("subset", "data.subset"),
    "iterations": ("length", "steps"),
    "val_loss": ("val/loss",),
    TOP1: ("finetune/top1",),
}
_OPTIONAL = {
    "train_loss": ("train/loss",),
    "params": ("parameters",),
    "images": (),
    "source": (),
}
_TASKS = ("inat18", "ade20k", "coco")  # the paper's others, beside names like depth/rmse
_NO_TASKS = ("train", "val", "speed", "run")  # what stands before the slash of other metrics
_COUNT = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*(?P<unit>[kKMBG]?)(?:it)?")
_UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}


@dataclass(frozen=True)
class Run:
    """One cell of a study: `scores` by task; `source`: what the data is a subset of; `images`: how many
    pictures it has, or where nobody knows the share of the source, at most 1."""

    model: str
    data: str
    iterations: int
    val_loss: float
    scores: Mapping[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    parameters: float | None = None
    images: float | None = None
    source: str = ""

    @property
    def pair(self) -> Pair:
        return self.model, self.data


@dataclass(frozen=True)
class StudyTable:
    """The runs that have a validation loss; `unfinished` counts the rows that have none."""

    name: str
    runs: tuple[Run, ...]
    tasks: tuple[str, ...] = (TOP1,)
    unfinished: int = 0

    def pairs(self) -> dict[Pair, tuple[Run, ...]]:
        """The runs of each pair, the shortest first; pairs in the order of the table."""
        found: dict[Pair, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.pair, []).append(run)
        return {p: tuple(sorted(r, key=lambda run: run.iterations)) for p, r in found.items()}

    def percent(self) -> float:
        """What makes this table's top-1 percent: 100 where it has shares of 1."""
        scores = [run.scores[TOP1] for run in self.runs if TOP1 in run.scores]
        return 100.0 if all(abs(score) <= 1.0 for score in scores) else 1.0

    def lengths(self) -> list[int]:
        """All lengths in iterations, the shortest first."""
        return sorted({run.iterations for run in self.runs})


def read_table(place: str) -> StudyTable:
    """Read a CSV or Parquet file, or the `table.parquet` or `table.csv` of a study's folder.

    Raises UserError in one line where there is none, a column is missing, a value cannot be read,
    a cell stands twice, or fewer than three runs are finished.
    """
    file = _find(place)
    columns, rows = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    names = _names(file, columns)
    if not rows:
        raise UserError(f"{file}: the table is empty; it needs a row for each run")
    tasks = (TOP1, *(name for name in columns if _is_task(name, names)))
    runs = [_run(file, number, row, names, tasks) for number, row in enumerate(rows, start=1)]
    finished = [run for run in runs if run is not None]
    _check(file, finished)
    return StudyTable(
        file.parent.name if file.stem == "table" else file.stem,
        tuple(finished),
        tuple(t for t in tasks if t == TOP1 or any(t in run.scores for run in finished)),
        len(runs) - len(finished),
    )


def _find(place: str) -> Path:
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        for name in ("table.parquet", "table.csv"):
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path}: holds neither table.parquet nor table.csv; is it a study?")
    if not path.is_file():
        raise UserError(f"{path}: no such table; give a .csv or .parquet file, or a study's folder")
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: a table ends in .csv or .parquet")
    return path


def _csv(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig")))
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file: {error}") from None
    return list(reader.fieldnames or ()), rows


def _parquet(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: not a Parquet file: {' '.join(str(error).split())}") from None
    return table.column_names, table.to_pylist()


def _names(file: Path, columns: list[str]) -> dict[str, str]:
    """What each of our columns is called in the table."""
    found = {}
    for name, others in (_NEEDED | _OPTIONAL).items():
        called = next((n for n in (name, *others) if n in columns), None)
        if called is not None:
            found[name] = called
    if missing := [name for name in _NEEDED if name not in found]:
        raise UserError(
            f"{file}: has no column {missing[0]}; a study's table needs {', '.join(_NEEDED)}"
        )
    return found


def _is_task(column: str, names: dict[str, str]) -> bool:
    kind, slash, _ = column.partition("/")
    return column in _TASKS or bool(
        slash and kind not in _NO_TASKS and column not in names.values()
    )


def _run(
    file: Path, number: int, row: dict[str, Any], names: dict[str, str], tasks: tuple[str, ...]
) -> Run | None:
    """A row's run, or None where it has no validation loss."""

    def of(name: str) -> Any:
        return row.get(names.get(name, name))

    try:
        val_loss, iterations = _number(of("val_loss")), _count(of("iterations"))
        scores = {task: _number(of(task)) for task in tasks}
        parameters, images = _count(of("params")), _count(of("images"))
        train_loss = _number(of("train_loss"))
    except ValueError as error:
        raise UserError(f"{file}: row {number}: {error}") from None
    model, data = (str(of(name) or "").strip() for name in ("model", "data"))
    if not model or not data or not iterations:
        raise UserError(f"{file}: row {number}: needs model, data and iterations")
    if val_loss is None:
        return None
    return Run(
        model=model,
        data=data,
        iterations=round(iterations),
        val_loss=val_loss,
        scores={task: score for task, score in scores.items() if score is not None},
        train_loss=train_loss,
        parameters=parameters or known_parameters(model),
        images=images or known_images(data) or split_share(data)[1],
        source=str(of("source") or split_share(data)[0]),
    )


def _number(value: Any) -> float | None:
    """A finite number; None for what is empty or was not finite."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    return number if math.isfinite(number) else None


def _count(value: Any) -> float | None:
    """A count, also as `125k`, `49M`, `1.06B` or `125000it`; None for what is empty."""
    text = "" if value is None else str(value).strip()
    if not text or text.lower() == "nan":
        return None
    match = _COUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a count; write it like 125000, 125k or 49M")
    return float(match["number"]) * _UNITS[match["unit"]]


def _check(file: Path, runs: list[Run]) -> None:
    seen: set[tuple[str, str, int]] = set()
    for run in runs:
        cell = (*run.pair, run.iterations)
        if cell in seen:
            raise UserError(
                f"{file}: {run.model}, {run.data}, {run.iterations} iterations stands twice; "
                "give each cell once"
            )
        seen.add(cell)
    if len(runs) < LEAST_RUNS:
        raise UserError(
            f"{file}: {len(runs)} rows have a validation loss, too few to say anything; "
            f"it takes {LEAST_RUNS} at least"
        )
