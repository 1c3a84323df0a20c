"""A suite's scores as bars, set by set, from the table alone."""

from __future__ import annotations

from typing import Any

from mimray.report.figure import finished

_COLOURS = ("#0b6e99", "#b07d2b", "#5b8c5a", "#a23b3b", "#6b5b95", "#9aa5b1")


def suite_bars(rows: list[dict[str, Any]], title: str) -> bytes:
    """Draw rows of `checkpoint`, `set`, `mean` and `spread` (shares of 1, or None) as PNG.

    A bar for each checkpoint, beside each other in every set; its error bar is the sample standard
    deviation over seeds, where there are two or more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(row["set"] for row in rows))
    checkpoints = list(dict.fromkeys(row["checkpoint"] for row in rows))
    figure = Figure(figsize=(max(6.0, 2.0 + 0.7 * len(sets)), 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(checkpoints)
    for number, checkpoint in enumerate(checkpoints):
        own = [row for row in rows if row["checkpoint"] == checkpoint and row["mean"] is not None]
        shift = (number - (len(checkpoints) - 1) / 2) * width
        axes.bar(
            [sets.index(row["set"]) + shift for row in own],
            [100 * row["mean"] for row in own],
            width,
            yerr=[100 * (row["spread"] or 0.0) for row in own],
            capsize=2,
            color=_COLOURS[number % len(_COLOURS)],
            label=checkpoint,
        )
    axes.set_xticks(range(len(sets)), sets, rotation=40, ha="right")
    axes.set(ylabel="accuracy, %", title=title)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return finished(axes)
