"""Accuracy over an encoder's layers, from the table alone."""

from __future__ import annotations

from mimray.evaluate.probing import Rows, chosen
from mimray.report.figure import finished

_LINES = {
    "top1": ("#0b6e99", "top-1", 7),
    "mean_per_class": ("#b07d2b", "mean per class", -15),
    "map11": ("#0b6e99", "11-point mAP", 7),
}
"""Of each score its colour, its name, and how far its figure stands above the line, points."""


_LEAST = 10.0  # percentage points that the axis shows


def layer_accuracy(rows: Rows, title: str) -> bytes:
    """Draw rows of `layer` and scores (shares of 1) as PNG, in their order.

    The figure that stands there is of the layer that stands for all, which no test picture chose.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places, stands = list(range(len(rows))), rows.index(chosen(rows))
    drawn: list[list[float]] = []
    for key, (colour, name, above) in _LINES.items():
        values = [100 * row[key] for row in rows if key in row]
        if (
            values and values not in drawn
        ):  # where all classes have as many pictures, one line stands for two
            drawn.append(values)
            axes.plot(places, values, color=colour, lw=2, marker="o", ms=4, label=name)
            axes.annotate(f"{values[stands]:.1f}", (stands, values[stands]), (0, above),
                          ha="center", textcoords="offset points", color=colour)  # fmt: skip
    axes.set_xticks(places, [row["layer"].removeprefix("block ") for row in rows])
    axes.set(xlabel="block", ylabel="accuracy, %", title=title)
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    if high - low < _LEAST:  # else noise fills the picture
        axes.set_ylim(max(0.0, (low + high - _LEAST) / 2), (low + high + _LEAST) / 2)
    axes.grid(alpha=0.25)
    return finished(axes)
