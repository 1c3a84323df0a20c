"""A study's cells and its prediction, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mimray.study.cell import Cell
from mimray.study.reading.wording import count, in_iterations, size
from mimray.study.scaling.cells import Laid, said
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.hours import Hours
from mimray.study.scaling.progress import State, state_of
from mimray.study.scaling.steps import Step
from mimray.study.scaling.table import Rows, study_rows
from mimray.train.console import duration

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LINES, _DEAREST = 8, 5
_FIGURES = {"val_loss": "val loss", "train_loss": "train loss", "top1": "top-1"}
_LEAST_NEEDED = ("left out", "waiting", "finished")


def cells_table(
    laid: Laid, steps: Sequence[Step], folder: StudyFolder, most: int | None = None
) -> Table:
    """A row a cell: how far it is, what it has found, how long it will take; at most `most` of them. Where
    names are short, it fits into 80 columns."""
    from rich.table import Table

    every = study_rows(laid.cells, steps, folder)
    rows = every if most is None else _fitting(every, most)
    hidden = len(every) - len(rows)
    columns = [name for step in steps for name in step.columns]
    shown = [name for name in columns if name in _FIGURES or name.endswith("/top1")]
    caption = f"and {count(hidden, 'cell')} more" if hidden else None
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left"
    )
    for name in ("model", "data", "length", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("done", *(_FIGURES.get(name, name) for name in shown), "left"):
        lines = name.replace(" ", "\n").replace("/", "\n")
        table.add_column(lines, justify="right", no_wrap=True)
    states: dict[tuple[str, str, int], State] = {}
    for cell in laid.cells:  # of several seeds the first that is not finished
        which = _which(cell)
        if which not in states or states[which].step is None:
            states[which] = state_of(cell, steps, folder)
    for row in rows:
        state = states[row["model"], row["data"], row["iterations"]]
        left = state.left if state.status in ("running", "waiting", "stopped") else None
        table.add_row(
            row["model"],
            row["data"],
            in_iterations(row["iterations"]),
            state.step if row["status"] == "running" else row["status"],
            "" if row["status"] == "left out" else f"{state.done:.0%}",
            *(_figure(name, row[name]) for name in shown),
            "" if not left else duration(3600 * left),
        )
    return table


def _fitting(rows: Rows, most: int) -> Rows:
    """At most so many, if that can be: what runs or has failed is never left out."""
    for status in _LEAST_NEEDED:
        over = max(0, len(rows) - most)
        those = [number for number, row in enumerate(rows) if row["status"] == status]
        hidden = set(those[len(those) - min(over, len(those)) :])
        rows = [row for number, row in enumerate(rows) if number not in hidden]
    return rows


def notes(rows: Rows) -> list[str]:
    """What the table does not say."""
    return [
        f"{row['model']}, {row['data']}, {row['iterations']} failed: {row['reason']}"
        for row in rows
        if row["status"] == "failed"
    ]


def line_of(rows: Rows, folder: StudyFolder) -> str:
    """How far all of it is."""
    done = sum(row["status"] == "finished" for row in rows)
    under_way = sum(row["status"] == "running" for row in rows)
    return (
        f"{folder.study.name}: {done} of {count(len(rows), 'cell')} finished, {under_way} running"
    )


def hours_table(cells: Sequence[Cell], hours: dict[str, Hours], folder: StudyFolder) -> Table:
    """What each cell is predicted to cost."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "data", "length"):
        table.add_column(name)
    for name in ("parameters", "pictures", "images/s", folder.unit):
        table.add_column(name, justify="right")
    table.add_column("from")
    for cell in cells:
        own = hours[cell.name]
        table.add_row(
            cell.values["model"],
            cell.values["data"],
            in_iterations(cell.values["iterations"]),
            size(folder.params[cell.values["model"]]),
            size(folder.images[cell.values["data"]]),
            f"{own.rate.images_per_s:.0f}",
            f"{own.cost:.3g}",
            own.rate.source if folder.is_chosen(cell.name) else "left out",
        )
    return table


def hours_lines(cells: Sequence[Cell], hours: dict[str, Hours], unit: str) -> list[str]:
    """What cells are predicted to cost, the dearest first; of many only these, and the others together."""
    ranked = sorted(cells, key=lambda cell: -hours[cell.name].cost)
    shown = len(ranked) if len(ranked) <= _MOST_LINES else _DEAREST
    lines = [f"  {hours[cell.name].cost:.3g} {unit}: {said(cell)}" for cell in ranked[:shown]]
    if others := ranked[shown:]:
        together = sum(hours[cell.name].cost for cell in others)
        lines.append(f"  {together:.3g} {unit}: the {len(others)} others together")
    return lines


def _which(cell: Cell) -> tuple[str, str, int]:
    return cell.values["model"], cell.values["data"], cell.values["iterations"]


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if name == "top1" or name.endswith("/top1") else f"{value:.4f}"
