"""Pictures of all cells, opened before anything starts: every cell can train on them, and those that have
begun were trained on what is there now, or they would not compare with the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.train.job import Job
from mimray.train.tasks.pretraining import Pretraining

Records = dict[str, dict[str, Any] | None]
"""`run.json` by name of the run, None where it has not begun. A damaged one is a failure of its cell alone,
and not among them."""


def open_cells(cells: Sequence[Cell], whose: str, said: Callable[[Cell], str]) -> dict[str, Job]:
    """By name of the run an opened job on its pictures, one for all cells that have the same `data`.

    `whose`: what they are cells of, like `sweep mask_grid`; `said`: a cell, before what is wrong with it.
    Raises UserError, in one line, for pictures that cannot be trained on or are fewer than a batch of any
    cell that has not begun, a warm-up longer than its run, or other data than a cell has begun with.
    """
    from mimray.train.prepare import check_run, check_warmup

    records = _records(cells)
    opened = _opened(cells, records, said)
    jobs = {one.name: job for sharing, _, job in opened for one in sharing}
    for cell in cells:
        job, record = jobs[cell.name], records.get(cell.name)
        if record is not None:
            _check_same_data(cell, record, job, whose)
        elif cell.name in records:
            with _named(said(cell)):
                check_warmup(cell.recipe, len(job.rows))
    for _, cell, job in opened:
        if cell.name in records:
            with _named(said(cell)):
                check_run(job)
    return jobs


def _opened(
    cells: Sequence[Cell], records: Records, said: Callable[[Cell], str]
) -> list[tuple[list[Cell], Cell, Job]]:
    """For each `data` the cells that share it, one of them, and its job. Raises UserError as above."""
    from mimray.train.prepare import FewerThanABatch, open_data

    found: list[tuple[list[Cell], Cell, Job]] = []
    few: list[FewerThanABatch] = []
    for sharing in _by_pictures(cells):
        cell = _largest_batch(sharing, records)
        try:
            with _named(said(cell)):
                found.append((sharing, cell, open_data(cell.recipe)))
        except FewerThanABatch as error:
            few.append(error)
    if few:  # a batch that fits the fewest fits all
        raise min(few, key=lambda error: error.photos)
    return found


def _records(cells: Sequence[Cell]) -> Records:
    found: Records = {}
    for cell in cells:
        try:
            found[cell.name] = cell.record()
        except UserError:
            continue
    return found


def _by_pictures(cells: Sequence[Cell]) -> list[list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.recipe.data.model_dump_json(), []).append(cell)
    return list(found.values())


def _largest_batch(cells: Sequence[Cell], records: Records) -> Cell:
    """The cell that asks for most pictures, of those that have not begun: others have had theirs, and where
    these are fewer now, that is what is to be said."""
    new = [cell for cell in cells if records.get(cell.name, {}) is None]
    return max(new or cells, key=lambda cell: cell.recipe.optim.batch)


@contextmanager
def _named(said: str) -> Iterator[None]:
    """What is wrong in here is wrong with this cell."""
    try:
        yield
    except UserError as error:
        error.args = (f"{said}: {error}",)  # of its own kind still
        raise


def _check_same_data(cell: Cell, record: dict[str, Any], job: Job, whose: str) -> None:
    """Raises UserError where pictures or files of the target are others than the cell has begun with."""
    job = replace(job, task=Pretraining(cell.recipe))
    if record["data_digest"] != job.data_digest:
        raise UserError(
            f"{whose}: run {cell.name} ({cell.words}) has begun on other data than {_places(job)} hold "
            f"now; bring them back as they were, or take another name or run.storage"
        )


def _places(job: Job) -> str:
    """The settings that data come from, for people."""
    data = job.recipe.data
    given = {"data.train": data.train, "data.val": data.val}
    told = [f"{name}={value}" for name, value in given.items() if value is not None]
    return " and ".join([*told, *job.task.files])
