"""Accuracy over an encoder's layers, from the table alone."""

from __future__ import annotations

from typing import Any

from mimray.report.figure import finished

_LINES = {
    "top1": ("#0b6e99", "top-1"),
    "mean_per_class": ("#b07d2b", "mean per class"),
    "map11": ("#0b6e99", "11-point mAP"),
}


def layer_accuracy(rows: list[dict[str, Any]], title: str) -> bytes:
    """Draw rows of `layer` and scores (shares of 1) as PNG, in their order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = list(range(len(rows)))
    for key, (colour, name) in _LINES.items():
        if key in rows[0]:
            values = [100 * row[key] for row in rows]
            axes.plot(places, values, color=colour, lw=2, marker="o", ms=4, label=name)
            best = max(places, key=values.__getitem__)
            axes.annotate(f"{values[best]:.1f}", (best, values[best]), (0, 7), ha="center",
                          textcoords="offset points", color=colour)  # fmt: skip
    axes.set_xticks(places, [row["layer"].removeprefix("block ") for row in rows])
    axes.set(xlabel="block", ylabel="accuracy, %", title=title)
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    return finished(axes)
