"""Cells that have begun were trained on what is there now, or they would not compare with the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.train.job import Job
from mimray.train.tasks.pretraining import Pretraining


def check_same_data(cells: Sequence[Cell], job_of: Callable[[Cell], Job], whose: str) -> None:
    """`job_of`: an opened job on a cell's pictures, be it that of another cell with the same `data`;
    `whose`: what they are cells of, like `sweep mask_grid`.

    Raises UserError, in one line, where pictures or files of the target are others than those that a cell
    has begun with.
    """
    for cell in cells:
        record = cell.record()
        if record is None:
            continue
        job = replace(job_of(cell), task=Pretraining(cell.recipe))
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
