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
_LETTER, _HANDLE = 0.068, 0.6  # inches of a legend's entry: each letter, and what stands before
_LABELLED = 14  # layers that have room for a label each in a panel
_PANEL = 3.4  # inches that so many layers take


def new_figure(width: float, height: float) -> Figure:
    """Inches; sharp enough for print."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(
    models: dict[str, str], rows: Rows, lines: int = 1, height: float = 3.6
) -> tuple[Figure, list[list[Axes]]]:
    """A column of panels a model, wider where it has many layers; each line of them has one y axis.

    `models`: labels and what is said of each; `rows`: a layer each, or several. `height`: inches of the
    first line; the others have no title, and are lower.
    """
    layers = [len({row["index"] for row in rows if row["model"] == model}) for model in models]
    widths = [_PANEL * min(2.0, max(1.0, count / _LABELLED)) for count in layers]
    figure = new_figure(1.0 + sum(widths), height + 2.4 * (lines - 1))
    found = figure.subplots(lines, len(models), sharey="row", squeeze=False, width_ratios=widths)
    for axes, (label, told) in zip(found[0], models.items(), strict=True):
        title(axes, shortened(label), told)
    for axes in found.flat:
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    return figure, found.tolist()


def title(axes: Axes, label: str, told: str, size: float = 10.0) -> None:
    """A model's name, `size` points high, and smaller what it is."""
    axes.set_title(label, fontsize=size, pad=16)
    axes.annotate(
        told, (0.5, 1.0), (0, 5), xycoords="axes fraction", textcoords="offset points",
        ha="center", fontsize=7, color=GREY,
    )  # fmt: skip


def shortened(label: str, most: int = 34) -> str:
    """The end of a label that is too long: of a path the part that tells it from others."""
    return label if len(label) <= most else f"...{label[-most + 3 :]}"


def layers_axis(axes: Axes, rows: Rows) -> list[int]:
    """Layers by their numbers, `last` by its name; thin lines between stages where there are several.

    Of many layers every second is labelled, or fewer; returns the numbers of those that are.
    """
    stages = {row["index"]: row["stage"] for row in rows}
    numbers = sorted(stages)
    every = -(-len(numbers) // _LABELLED)
    shown = [n for n in numbers if (n - 1) % every == 0]
    last = {row["index"] for row in rows if row["layer"] == "last"}
    axes.set_xticks(shown, ["last" if n in last else str(n) for n in shown])
    axes.set_xlim(numbers[0] - 0.6, numbers[-1] + 0.6)
    for before, after in pairwise(numbers):
        if stages[before] != stages[after]:
            axes.axvline((before + after) / 2, color=GREY, lw=0.6, ls=":", zorder=0)
    return shown


def from_zero(axes: Axes, air: float = 0.08) -> None:
    """A y axis from 0 to what is drawn in the panels that share it, and a share of `air` above."""
    axes.update_datalim([(0.0, 0.0)], updatex=False)
    axes.set_ymargin(air)
    axes.autoscale_view(scalex=False)
    axes.set_ylim(bottom=0.0)


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


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Under all panels, in as many columns as have room; names that are too long lose their beginning."""
    labels = [shortened(str(handle.get_label())) for handle in handles]
    wide = _HANDLE + _LETTER * max(map(len, labels))
    figure.legend(
        list(handles), labels, frameon=False, fontsize=8, loc="outside lower center",
        ncols=max(1, min(len(labels), int(figure.get_figwidth() / wide))),
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
