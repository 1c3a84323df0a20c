"""A suite's scores as bars, set by set, from the table alone."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from mimray.evaluate.table import Rows, unlike
from mimray.report.figure import finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0b6e99", "#b07d2b", "#5b8c5a", "#a23b3b", "#6b5b95", "#9aa5b1")
_METRICS = {"top1": "top-1", "mean_per_class": "mean per class", "map11": "11-point mAP"}
_LETTERS = 17  # of the caption, an inch


def suite_bars(rows: Rows, title: str) -> bytes:
    """Draw the rows of a suite's table that have been, or are to be, scored as PNG.

    A bar for each checkpoint, beside each other in every set; its error bar is the sample standard
    deviation over seeds, where there are two or more. Bars of fewer seeds than were asked for are
    hatched, and a word stands where there is no score; a set that is probed has a star. The caption
    says so, and in what the checkpoints differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = {row["set"]: row for row in rows}
    checkpoints = list(dict.fromkeys(row["checkpoint"] for row in rows))
    width = max(6.0, 2.0 + 0.7 * len(sets))
    figure = Figure(figsize=(width, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, checkpoint in enumerate(checkpoints):
        own = {row["set"]: row for row in rows if row["checkpoint"] == checkpoint}
        _bars(axes, [own.get(name) for name in sets], number, len(checkpoints))
    names = [f"{name}{_star(row)}\n{_METRICS[row['metric']]}" for name, row in sets.items()]
    axes.set_xticks(range(len(sets)), names, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlim(-0.5, len(sets) - 0.5)
    axes.set_ylim(0, 104 + 8 * len(checkpoints))  # the legend stands above all bars
    axes.set(ylabel="score, %", title=title)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    if notes := caption(rows):
        lines = textwrap.wrap("; ".join(notes), int(_LETTERS * width))
        figure.supxlabel("\n".join(lines), fontsize=8)
    return finished(axes)


def caption(rows: Rows) -> list[str]:
    """What has to be known to compare the bars."""
    notes = [
        unlike(rows),
        "* linear probe of frozen features" if any(map(_star, rows)) else None,
        "hatched: not all seeds are finished" if any(map(_unfinished, rows)) else None,
    ]
    return [note for note in notes if note]


def _bars(axes: Axes, own: list[dict[str, Any] | None], number: int, count: int) -> None:
    """Those of one checkpoint of `count`: a row, or None, for each set in turn."""
    width = 0.8 / count
    shift = (number - (count - 1) / 2) * width
    places = [place + shift for place in range(len(own))]
    for place, row in zip(places, own, strict=True):
        if row is None or row["mean"] is None:
            word = "left out" if row is None else row["status"]
            axes.text(place, 1.5, word, rotation=90, ha="center", va="bottom", fontsize=7)
    axes.bar(
        places,
        [_percent(row, "mean") for row in own],
        width,
        yerr=[_percent(row, "spread") for row in own],
        capsize=2,
        color=_COLOURS[number % len(_COLOURS)],
        edgecolor="white",
        linewidth=0,
        hatch=["////" if row and _unfinished(row) else "" for row in own],
        label=next(row["checkpoint"] for row in own if row),
    )


def _percent(row: dict[str, Any] | None, key: str) -> float:
    """Not a number, of which nothing is drawn, where there is none."""
    return math.nan if row is None or row[key] is None else 100 * row[key]


def _star(row: dict[str, Any]) -> str:
    return " *" if row["protocol"] == "linear probe" else ""


def _unfinished(row: dict[str, Any]) -> bool:
    return row["mean"] is not None and row["status"] != "finished"
