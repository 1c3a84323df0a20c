"""Figures in sentences: losses, points, intervals, and "cannot say" where an interval spans zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mimray.study.reading.intervals import Interval
from mimray.study.reading.table import TOP1, StudyTable

VAL_LOSS = "validation loss"
Say = Callable[[float], str]


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, name: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def cannot_say(why: str) -> str:
    """A sentence for what the table does not tell."""
    return f"Cannot say: {why}."


def loss(value: float) -> str:
    """A loss, to four places."""
    return f"{value:.4f}"


def loss_change(value: float) -> str:
    """A difference of losses, with its sign, to four places or its first figure that is not zero."""
    return f"{value:+.4f}" if abs(value) >= 5e-5 or not value else f"{value:+.0e}"


def size(number: float) -> str:
    """`49M`, `1.28M`, `250k`; a share of the source as it is."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"


def in_iterations(length: int) -> str:
    """`125000` -> `125k`."""
    return str(length) if length % 1000 else f"{length // 1000}k"


def task_name(task: str) -> str:
    """The task as people say it."""
    return "top-1" if task == TOP1 else task


def score_change(task: str, table: StudyTable) -> Say:
    """How a difference of a task's scores is said: of top-1, also of neighbours and probes, in points."""
    if task.rpartition("/")[2] != TOP1:
        return lambda value: f"{value:+.3g}"
    return lambda value: f"{table.percent(task) * value:+.2f} points"


def change(
    what: str, mean: float, bounds: Interval | None, few: str, say: Say = loss_change
) -> str:
    """`validation loss -0.0044 (-0.0052 to -0.0035)`, and whether that is something; `few`: what there are
    too few of where there are no bounds."""
    if bounds is None:
        return f"{what} {say(mean)}, cannot say with {few}"
    between = f"({say(bounds[0]).split()[0]} to {say(bounds[1]).split()[0]})"
    spans = ", cannot say up or down" if bounds[0] <= 0.0 <= bounds[1] else ""
    return f"{what} {say(mean)} {between}{spans}"
