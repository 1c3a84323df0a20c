"""How alike layers are, within a model and across two, as heat maps on one scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mimray.report.panels import new_figure, png, shortened, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from mimray.evaluate.table_files import Rows

_ANNOTATED = 26  # layers; the numbers of more would not be read
_CELL = 0.2  # inches that a number takes
_ACROSS = 4  # panels in a row
_OF_TWO = 24  # letters of each name where two stand in a title


def cka_figure(models: dict[str, str], rows: Rows, notes: dict[str, Any]) -> bytes:
    """Draw rows of `model`, `other_model`, `layer`, `other` and `cka` as PNG, a panel for two models."""
    pairs = list(dict.fromkeys((row["model"], row["other_model"]) for row in rows))
    lowest = min((row["cka"] for row in rows if row["cka"] == row["cka"]), default=0.0)
    low = min(0.9, math.floor(lowest * 10) / 10)
    columns = len(pairs) if len(pairs) <= _ACROSS else min(len(models), _ACROSS)
    lines = -(-len(pairs) // columns)
    most = max(max(row["index"], row["other_index"]) for row in rows)
    side = max(3.6, _CELL * most) if most <= _ANNOTATED else 3.6
    figure = new_figure(1.4 + side * columns, 0.6 + (side + 0.3) * lines)
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    images = []
    for axes, pair in zip(places, pairs, strict=False):
        own = [row for row in rows if (row["model"], row["other_model"]) == pair]
        images.append(_draw(axes, own, low, side))
        if pair[0] == pair[1]:
            title(axes, shortened(pair[0]), f"{models[pair[0]]}; {_range(own)}")
        else:
            both = " and ".join(shortened(label, _OF_TWO) for label in pair)
            title(axes, both, _range(own), size=8.0)
            axes.set_ylabel(shortened(pair[0]), fontsize=8)
            axes.set_xlabel(shortened(pair[1]), fontsize=8)
    for axes in places[len(pairs) :]:
        axes.set_visible(False)
    bar = figure.colorbar(images[0], ax=list(figure.axes), shrink=0.8, pad=0.02)
    bar.set_label(f"CKA, {low:g} to 1", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return png(figure, notes)


def _draw(axes: Axes, rows: Rows, low: float, side: float) -> AxesImage:
    down = list(dict.fromkeys(row["layer"] for row in rows))
    across = list(dict.fromkeys(row["other"] for row in rows))
    values = [[row["cka"] for row in rows if row["layer"] == layer] for layer in down]
    image = axes.imshow(values, vmin=low, vmax=1.0, cmap="viridis", origin="lower", aspect="auto")
    axes.set_box_aspect(1)  # panels are equally large, whatever the depths of their models
    _ticks(axes, down, across)
    for edge in axes.spines.values():
        edge.set_visible(False)
    if max(len(down), len(across)) <= _ANNOTATED:
        size = min(8.0, 22 * side / max(len(down), len(across)))
        _annotate(axes, values, (1.0 + low) / 2, size)
    return image


def _annotate(axes: Axes, values: list[list[float]], middle: float, size: float) -> None:
    """Every value, in the colour that is read on its own."""
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            if math.isnan(value):
                continue
            colour = "white" if value < middle else "black"
            text = f"{value:.2f}".replace("0.", ".", 1)
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)


def _ticks(axes: Axes, down: list[str], across: list[str]) -> None:
    for names, put in ((down, axes.set_yticks), (across, axes.set_xticks)):
        every = -(-len(names) // 13)
        places = [n for n in range(len(names)) if n % every == 0]
        put(places, [names[n].removeprefix("block ") for n in places], fontsize=7)
    axes.tick_params(length=0)


def _range(rows: Rows) -> str:
    """Of different layers, but for those that are the same for all pictures, whose CKA is nan."""
    apart = [r for r in rows if r["layer"] != r["other"] or r["model"] != r["other_model"]]
    found = [row["cka"] for row in apart if row["cka"] == row["cka"]]
    return f"{min(found):.2f} to {max(found):.2f}" if found else ""
