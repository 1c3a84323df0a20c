"""Models side by side: panels that share their axes, a value a layer, and the conventions under them."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimray.evaluate.table_files import Rows

COLOURS = ("#0b6e99", "#b07d2b", "#5b8c5a", "#a23b3b", "#6b5b95", "#3d4852")
"""Of models; they differ in lightness as well as in hue."""
GREY = "#7b8794"
_GOLDEN = 0.618034
_LETTERS = 21  # of a note in an inch
_ACROSS = 3  # entries of a legend in a row


def new_figure(width: float, height: float) -> Figure:
    """Inches; sharp enough for print."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(models: dict[str, str], height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A panel a model, in a row, all with one y axis; `models`: labels and what is said of each."""
    count = len(models)
    figure = new_figure(1.0 + 3.4 * count, height)
    axes = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
    for one, (label, told) in zip(axes, models.items(), strict=True):
        title(one, label, told)
        one.grid(axis="y", alpha=0.25)
        one.set_axisbelow(True)
    return figure, axes


def title(axes: Axes, label: str, told: str) -> None:
    """A model's name, and smaller what it is."""
    axes.set_title(shortened(label), fontsize=10, pad=16)
    axes.annotate(
        told, (0.5, 1.0), (0, 5), xycoords="axes fraction", textcoords="offset points",
        ha="center", fontsize=7, color=GREY,
    )  # fmt: skip


def shortened(label: str, most: int = 34) -> str:
    """The end of a label that is too long: of a path the part that tells it from others."""
    return label if len(label) <= most else f"...{label[-most + 3 :]}"


def layers_axis(axes: Axes, rows: Rows) -> None:
    """Layers by their numbers, `last` by its name; thin lines between stages where there are several."""
    stages = {row["index"]: row["stage"] for row in rows}
    numbers = sorted(stages)
    every = -(-len(numbers) // 13)
    shown = [n for n in numbers if (n - 1) % every == 0]
    last = {row["index"] for row in rows if row["layer"] == "last"}
    axes.set_xticks(shown, ["last" if n in last else str(n) for n in shown])
    axes.set_xlim(numbers[0] - 0.6, numbers[-1] + 0.6)
    for before, after in pairwise(numbers):
        if stages[before] != stages[after]:
            axes.axvline((before + after) / 2, color=GREY, lw=0.6, ls=":", zorder=0)


def spread(values: Sequence[float], width: float = 0.5) -> list[float]:
    """Offsets that keep dots of one layer apart: neighbours in value by steps of the golden ratio."""
    order = sorted(range(len(values)), key=values.__getitem__)
    offsets = [0.0] * len(values)
    for step, place in enumerate(order):
        offsets[place] = width * ((step * _GOLDEN + 0.5) % 1 - 0.5)
    return offsets


def means(rows: Rows, column: str) -> tuple[list[int], list[float]]:
    """Layers' numbers and the mean of a column over each one's rows."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row[column] is not None:
            found.setdefault(row["index"], []).append(row[column])
    return list(found), [sum(values) / len(values) for values in found.values()]


def mean(rows: Rows, column: str) -> float | None:
    """Of a column over all rows that have it, each of which counts the same; None where none has."""
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values) / len(values) if values else None


def legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """What is drawn in any of the panels, each once, above them all, where it hides no dot."""
    named: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(
            list(named.values()), list(named), frameon=False, fontsize=7,
            ncols=min(_ACROSS, len(named)), loc="outside upper right",
        )  # fmt: skip


def figures_of(value: float) -> str:
    """Three significant digits: 0.0452, 5.00, 48.7."""
    return f"{value:#.3g}".rstrip(".")


def png(figure: Figure, notes: dict[str, Any], spines: Iterable[Axes] = ()) -> bytes:
    """The figure with its conventions under it, and the axes given without a frame above and right."""
    for axes in spines:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    text = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in notes.items())
    wide = int(figure.get_figwidth() * _LETTERS)
    figure.supxlabel(
        "\n".join(textwrap.wrap(text, wide)), fontsize=6, color=GREY, x=0.01, ha="left"
    )
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
