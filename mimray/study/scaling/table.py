"""A study's table, a row a cell, in the form that `mimray study report` reads; from files alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from mimray.errors import UserError
from mimray.shares import share
from mimray.study.cell import Cell
from mimray.study.reading.sizes import split_share
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.progress import LEFT_OUT, state_of
from mimray.study.scaling.steps import Step

Rows = list[dict[str, Any]]
Columns = dict[str, pa.DataType]

_ABOUT: Columns = {
    "model": pa.string(),
    "data": pa.string(),
    "iterations": pa.int64(),
    "params": pa.int64(),
    "images": pa.int64(),
    "source": pa.string(),
}
_ASKED = ("val_loss", "train_loss", "top1")  # by whoever reads it, also where nothing is fine-tuned
_END: Columns = {
    "epochs": pa.float64(),
    "seconds": pa.float64(),
    "seeds": pa.int64(),
    "run": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
}
"""`seconds`: of all steps, starts included; `seeds`: of which the values are the mean; `run`: its names."""
_ORDER = ("failed", "waiting", LEFT_OUT, "stopped", "running", "finished")


def columns(steps: Sequence[Step]) -> Columns:
    """Of `study_rows`, in their order."""
    found = [name for step in steps for name in step.columns]
    found.sort(key=lambda name: "/" in name)
    return _ABOUT | dict.fromkeys((*_ASKED, *found), pa.float64()) | _END


def study_rows(cells: Sequence[Cell], steps: Sequence[Step], folder: StudyFolder) -> Rows:
    """A row for each model, data and length, of several seeds the mean of those that are finished."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    sources = _sources(cells)
    for cell in cells:
        which = tuple(cell.values[name] for name in ("model", "data", "iterations"))
        source = sources[cell.values["data"]]
        rows.setdefault(which, []).append(_row(cell, source, steps, folder))
    return [_together(own, steps) for own in rows.values()]


def _sources(cells: Sequence[Cell]) -> dict[str, str]:
    """What each subset is of, by the subset's name.

    Shares of the same pictures have one source, called as the largest of them is without its percent. The
    pictures of a manifest may be of another kind, so its own name stands for them.
    """
    found: dict[str, str] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, data in {cell.values["data"]: cell.recipe.data for cell in cells}.items():
        part = 1.0 if data.subset is None else share(data.subset)
        if math.isnan(part):
            found[name] = split_share(name)[0] or name
        else:
            shares.setdefault(data.train, {})[name] = part
    called: set[str] = set()
    for train, parts in shares.items():
        largest = max(parts, key=parts.__getitem__)
        source = split_share(largest)[0] or PurePath(train).name
        source = train if source in called else source
        called.add(source)
        found |= dict.fromkeys(parts, source)
    return found


def _row(cell: Cell, source: str, steps: Sequence[Step], folder: StudyFolder) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for step in steps:
        try:
            values |= step.values(cell) or {}
        except UserError:
            continue  # its status tells
    state = state_of(cell, steps, folder)
    if state.diverged and "val_loss" not in values:
        values["val_loss"] = math.nan  # so that whoever reads the table leaves it out as what it is
    images = folder.images.get(cell.values["data"])
    seen = cell.values["iterations"] * cell.recipe.optim.batch
    noted = folder.seconds.get(cell.name, {})
    took = [one["seconds"] for one in noted.values() if "seconds" in one]
    return {
        **{name: cell.values[name] for name in ("model", "data", "iterations")},
        "params": folder.params.get(cell.values["model"]),
        "images": images,
        "source": source,
        **values,
        "epochs": seen / images if images else None,
        "seconds": sum(took) if took else None,
        "run": cell.name,
        "status": state.status,
        "reason": state.reason,
    }


def _together(rows: Rows, steps: Sequence[Step]) -> dict[str, Any]:
    """One row of several seeds', all of its means over the same ones."""
    names = [name for step in steps for name in step.columns]
    alike = _furthest(rows, names)
    first = dict(rows[0])
    for name in (*names, "seconds"):
        known = [row[name] for row in alike if row.get(name) is not None]
        first[name] = statistics.fmean(known) if known else None
    reasons = [row["reason"] for row in rows if row["reason"]]
    return first | {
        "seeds": sum(_count(row, names) > 0 for row in alike),
        "run": " ".join(row["run"] for row in rows),
        "status": min((row["status"] for row in rows), key=_ORDER.index),
        "reason": reasons[0] if reasons else None,
    }


def _furthest(rows: Rows, names: Sequence[str]) -> Rows:
    """The seeds that are finished; while none is, those that have found out most, and diverged ones only
    where all have."""
    if done := [row for row in rows if row["status"] == "finished"]:
        return done
    able = [row for row in rows if not _is_diverged(row)] or rows
    most = max(_count(row, names) for row in able)
    return [row for row in able if _count(row, names) == most]


def _count(row: dict[str, Any], names: Sequence[str]) -> int:
    """How many of its values are known."""
    return sum(row.get(name) is not None for name in names)


def _is_diverged(row: dict[str, Any]) -> bool:
    loss = row.get("val_loss")
    return loss is not None and math.isnan(loss)
