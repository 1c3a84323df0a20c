"""The table of a study: a run a row, as a CSV or Parquet file or in a study's folder.

Needed are the columns `model`, `data`, `iterations` and `val_loss`, under these or mimray's own names;
`top1`, `train_loss`, `params`, `images`, `source` and the scores of other tasks are taken where they stand.
Other columns are left alone. A cell without a number is one that has not been measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mimray.errors import UserError
from mimray.study.reading.sizes import known_images, known_parameters, split_share
from mimray.study.reading.table_columns import (
    TOP1,
    Columns,
    as_count,
    as_measured,
    as_number,
    as_top1,
)
from mimray.study.reading.table_file import Row, find_table, read_rows

T = TypeVar("T")

Pair = tuple[str, str]
"""A model and the data that it was trained on, whatever the length."""
Cell = tuple[str, str, int]
"""A model, its data and the length in iterations."""

LEAST_RUNS = 3  # two points lie on a line whatever they are


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

    @property
    def cell(self) -> Cell:
        return self.model, self.data, self.iterations


@dataclass(frozen=True)
class StudyTable:
    """The runs that have a finite validation loss. `diverged`: cells whose loss is not finite;
    `waiting`: cells that have none yet."""

    name: str
    runs: tuple[Run, ...]
    tasks: tuple[str, ...] = (TOP1,)
    waiting: tuple[Cell, ...] = ()
    diverged: tuple[Cell, ...] = ()

    @property
    def unfinished(self) -> int:
        """How many cells have no validation loss yet."""
        return len(self.waiting)

    def pairs(self) -> dict[Pair, tuple[Run, ...]]:
        """The runs of each pair, the shortest first; pairs in the order of the table."""
        found: dict[Pair, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.pair, []).append(run)
        return {p: tuple(sorted(r, key=lambda run: run.iterations)) for p, r in found.items()}

    def percent(self, task: str = TOP1) -> float:
        """What makes this table's scores of a task percent: 100 where it has shares of 1."""
        scores = [run.scores[task] for run in self.runs if task in run.scores]
        return 100.0 if all(abs(score) <= 1.0 for score in scores) else 1.0

    def lengths(self) -> list[int]:
        """All lengths in iterations, the shortest first."""
        return sorted({run.iterations for run in self.runs})


def read_table(place: str) -> StudyTable:
    """Read a CSV or Parquet file, or the `table.parquet` or `table.csv` of a study's folder.

    Raises UserError in one line where there is none, a column is missing or stands twice, a value cannot
    be read or be true, rows disagree, a cell stands twice, or fewer than three runs are finished.
    """
    file = find_table(place)
    header, rows = read_rows(file)
    columns = Columns(file, header)
    if not rows:
        raise UserError(f"{file}: the table is empty; it needs a row for each run")
    _check_top1(columns, rows)
    sizes = _Sizes(columns, rows)
    runs: list[Run] = []
    left: dict[str, list[Cell]] = {"waiting": [], "diverged": []}
    for row in rows:
        cell, loss = _cell(columns, row), columns.read(row, "val_loss", as_number)
        if loss is None or not math.isfinite(loss):
            left["waiting" if loss is None else "diverged"].append(cell)
        else:
            runs.append(_run(columns, row, cell, loss, sizes))
    _check_runs(file, runs)
    scored = (task for task in columns.tasks if any(task in run.scores for run in runs))
    return StudyTable(
        file.parent.name if file.stem == "table" else file.stem,
        tuple(runs),
        (TOP1, *scored),
        **{kind: tuple(cells) for kind, cells in left.items()},
    )


def _cell(columns: Columns, row: Row) -> Cell:
    model, data = (columns.needed(row, name, str) for name in ("model", "data"))
    return model, data, round(columns.needed(row, "iterations", as_count))


def _run(columns: Columns, row: Row, cell: Cell, loss: float, sizes: _Sizes) -> Run:
    read = {task: columns.read(row, task, as_measured) for task in columns.tasks}
    scores = {TOP1: columns.read(row, TOP1, as_top1), **read}
    model, data, iterations = cell
    return Run(
        model=model,
        data=data,
        iterations=iterations,
        val_loss=loss,
        scores={task: score for task, score in scores.items() if score is not None},
        train_loss=columns.read(row, "train_loss", as_measured),
        parameters=sizes.parameters.get(model) or known_parameters(model),
        images=sizes.images[data],
        source=sizes.sources[data],
    )


class _Sizes:
    """What a table says of models and data sets, in any of their rows.

    `images` are shares for all data sets of a source where the pictures of some are not known: a share
    and a number of pictures do not compare.
    """

    def __init__(self, columns: Columns, rows: Sequence[Row]) -> None:
        names = dict.fromkeys(columns.needed(row, "data", str) for row in rows)
        self.parameters = _agreed(columns, rows, "params", "model", as_count)
        told = _agreed(columns, rows, "source", "data", str)
        self.sources = {data: told.get(data) or split_share(data)[0] for data in names}
        counts = _agreed(columns, rows, "images", "data", as_count)
        pictures = {data: counts.get(data) or known_images(data) for data in names}
        unknown = {self.sources[data] for data, count in pictures.items() if count is None}
        self.images = {
            data: split_share(data)[1] if count is None or self.sources[data] in unknown else count
            for data, count in pictures.items()
        }


def _agreed(
    columns: Columns, rows: Sequence[Row], name: str, by: str, how: Callable[[str], T | None]
) -> dict[str, T]:
    """A column's value for each model or data set. Raises UserError where two rows tell two."""
    found: dict[str, tuple[T, Row]] = {}
    for row in rows:
        which, value = columns.shown(row, by), columns.read(row, name, how)
        if value is None:
            continue
        first, other = found.setdefault(which, (value, row))
        if first != value:
            here, there = columns.shown(row, name), columns.shown(other, name)
            said = f"of {which} is {here}, and {there} in {other.where}; give it one value"
            raise columns.error(row, name, said)
    return {which: value for which, (value, _) in found.items()}


def _check_top1(columns: Columns, rows: Sequence[Row]) -> None:
    """Shares and percents in one column are no differences of anything."""
    shares: list[Row] = []
    percents: list[Row] = []
    for row in rows:
        if score := columns.read(row, TOP1, as_top1):
            (shares if score <= 1.0 else percents).append(row)
    if shares and percents:
        share, percent = (columns.shown(own[0], TOP1) for own in (shares, percents))
        said = (
            f"is {percent}, in percent, and {share}, a share of 1, in {shares[0].where}; "
            "write all as shares, or each with a % behind it"
        )
        raise columns.error(percents[0], TOP1, said)


def _check_runs(file: Path, runs: Sequence[Run]) -> None:
    seen: set[Cell] = set()
    for run in runs:
        if run.cell in seen:
            raise UserError(
                f"{file}: {run.model}, {run.data}, {run.iterations} iterations stands twice; "
                "give each cell once"
            )
        seen.add(run.cell)
    if len(runs) < LEAST_RUNS:
        raise UserError(
            f"{file}: {len(runs)} rows have a validation loss that is finite, too few to say anything; "
            f"it takes {LEAST_RUNS} at least"
        )
