"""What the validation loss is worth: against each task, against the training loss, and predicted ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mimray.report.panels import GREY, legend_below, new_figure, png, shortened
from mimray.report.study import (
    FINE,
    MARKERS,
    OVERFITTING,
    Rows,
    Value,
    models_of,
    score_of,
    task_label,
    val_loss,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = ((False, FINE, "does not over-fit"), (True, OVERFITTING, "over-fits"))


def score_against_loss(rows: Rows, title: str, tasks: Sequence[str]) -> bytes:
    """Draw a PNG: a panel a task, and a second row against the training loss where rows have one."""
    losses: list[tuple[str, Value]] = [("validation loss", val_loss)]
    if any(row["train_loss"] is not None for row in rows):
        losses.append(("training loss", _train_loss))
    figure = new_figure(1.6 + 3.8 * len(tasks), 0.9 + 3.4 * len(losses))
    grid = figure.subplots(len(losses), len(tasks), squeeze=False)
    for own, (name, loss) in zip(grid, losses, strict=True):
        for axes, task in zip(own, tasks, strict=True):
            _scatter(axes, rows, loss, score_of(task))
            axes.set_xlabel(name, fontsize=9)
            axes.set_ylabel(task_label(task), fontsize=9)
    _finish(figure, grid[0, 0], rows, title)
    return png(figure, {}, grid.flat)


def train_against_val(rows: Rows, title: str) -> bytes:
    """Draw validation against training loss as PNG: what over-fits leaves the others' line upwards."""
    figure = new_figure(5.6, 4.4)
    axes = figure.subplots()
    _scatter(axes, rows, _train_loss, val_loss)
    axes.set_xlabel("training loss", fontsize=9)
    axes.set_ylabel("validation loss", fontsize=9)
    _finish(figure, axes, rows, title)
    return png(figure, {}, [axes])


def predicted_against_actual(predictions: Sequence[dict[str, Any]], title: str) -> bytes:
    """Draw predictions against what came as PNG, and how far they missed, with their 90 % intervals.

    A prediction: `model`, `data`, `predicted`, `low`, `high` and `actual`, which is not None.
    """
    figure = new_figure(10.6, 0.9 + max(3.6, 0.28 * len(predictions)))
    left, right = figure.subplots(1, 2)
    values = [one[key] for one in predictions for key in ("actual", "predicted")]
    ends = [min(values), max(values)]
    left.plot(ends, ends, color=GREY, lw=1, ls=":")
    right.axvline(0.0, color=GREY, lw=1, ls=":")
    for place, one in enumerate(predictions):
        missed = one["predicted"] - one["actual"]
        look: dict[str, Any] = {"color": FINE, "marker": "o", "ms": 4, "lw": 1.2, "capsize": 2}
        bars = None
        if one["low"] is not None:
            bars = [[one["predicted"] - one["low"]], [one["high"] - one["predicted"]]]
        left.errorbar([one["actual"]], [one["predicted"]], yerr=bars, **look)
        right.errorbar([missed], [place], xerr=bars, **look)
    left.set_xlabel("validation loss at the longest length", fontsize=9)
    left.set_ylabel("predicted from shorter trainings", fontsize=9)
    right.set_xlabel("predicted - actual, 90 % interval", fontsize=9)
    names = [f"{shortened(p['model'], 20)}, {shortened(p['data'], 20)}" for p in predictions]
    right.set_yticks(range(len(predictions)), names)
    right.invert_yaxis()
    figure.suptitle(title, fontsize=11)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    return png(figure, {}, [left, right])


def _train_loss(row: dict[str, Any]) -> float | None:
    value: float | None = row["train_loss"]
    return value


def _scatter(axes: Axes, rows: Rows, x_of: Value, y_of: Value) -> None:
    for number, model in enumerate(models_of(rows)):
        for overfits, colour, _ in _KINDS:
            own = [row for row in rows if (row["model"], row["overfitting"]) == (model, overfits)]
            points = [(x_of(row), y_of(row)) for row in own]
            known = [(x, y) for x, y in points if x is not None and y is not None]
            axes.scatter(
                [x for x, _ in known], [y for _, y in known], s=26, alpha=0.85, linewidths=1.2,
                marker=MARKERS[number % len(MARKERS)], edgecolors=colour,
                facecolors="none" if overfits else colour,
            )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _finish(figure: Figure, axes: Axes, rows: Rows, title: str) -> None:
    """A legend of colours, where any pair over-fits, and of shapes for models."""
    handles = [
        axes.scatter(
            [], [], s=26, facecolors="none" if overfits else colour, edgecolors=colour, label=name
        )
        for overfits, colour, name in _KINDS
        if any(row["overfitting"] for row in rows)
    ]
    handles += [
        axes.scatter([], [], s=26, marker=MARKERS[n % len(MARKERS)], color=GREY, label=model)
        for n, model in enumerate(models_of(rows))
    ]
    figure.suptitle(title, fontsize=11)
    legend_below(figure, handles)
