"""A study's curves: validation loss and accuracy against length, a panel a model, from rows alone.

A row: `model`, `data`, `source`, `parameters`, `images`, `iterations`, `val_loss`, `train_loss`, `scores`
(by task) and `overfitting`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mimray.report.panels import legend_below, new_figure, png, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]
Value = Callable[[dict[str, Any]], float | None]

FINE, OVERFITTING = "#0072b2", "#d55e00"  # Okabe and Ito: told apart by every kind of eye
MARKERS = ("o", "s", "^", "D", "v", "P", "*", "X", "<", ">", "p", "h")
_BLUES = (0.32, 1.0)  # of matplotlib's, for subsets of one source, the small to the large
_SOURCES = (
    *("#009e73", "#cc79a7", "#e69f00", "#000000", "#7a5195"),
    *("#a05a2c", "#8c8c00", "#e15759", "#00a6a6", "#808080"),
)
"""Of other ones."""
_PANEL, _TITLE = 2.3, 26  # inches a model, and the letters of its name that they have room for


def curves(rows: Rows, title: str, task: str) -> bytes:
    """Draw a PNG: above the validation loss, below the task's score; a line for each data set.

    Lines of pairs that over-fit are dashed.
    """
    models = models_of(rows)
    colours = data_colours(rows)
    values = [("validation loss", val_loss), (task_label(task), score_of(task))]
    values = [(name, of) for name, of in values if any(of(row) is not None for row in rows)]
    figure = new_figure(1.4 + _PANEL * len(models), 0.8 + 2.4 * len(values))
    grid = figure.subplots(len(values), len(models), sharex=True, sharey="row", squeeze=False)
    for column, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        for axes, (name, value) in zip(grid[:, column], values, strict=True):
            for data, colour in colours.items():
                _line(axes, [row for row in own if row["data"] == data], value, colour)
            axes.grid(alpha=0.25)
            _length_axis(axes, rows)
            if column == 0:
                axes.set_ylabel(name, fontsize=9)
        grid[0, column].set_title(shortened(model, _TITLE), fontsize=10)
        grid[-1, column].set_xlabel("iterations", fontsize=9)
    handles = [
        grid[0, 0].plot([], [], color=c, marker="o", ms=4, label=d)[0] for d, c in colours.items()
    ]
    if any(row["overfitting"] for row in rows):
        handles += grid[0, 0].plot([], [], color="#555555", ls="--", label="over-fits")
    figure.suptitle(title, fontsize=11)
    legend_below(figure, handles)
    return png(figure, {}, grid.flat)


def _line(axes: Axes, rows: Rows, value: Value, colour: str) -> None:
    shown = sorted((row["iterations"], y) for row in rows if (y := value(row)) is not None)
    if shown:
        dashed = "--" if rows[0]["overfitting"] else "-"
        axes.plot(*zip(*shown, strict=True), color=colour, ls=dashed, marker="o", ms=4, lw=1.6)


def val_loss(row: dict[str, Any]) -> float | None:
    """A row's validation loss."""
    value: float | None = row["val_loss"]
    return value


def score_of(task: str) -> Value:
    """What takes a task's score from a row."""
    return lambda row: row["scores"].get(task)


def task_label(task: str) -> str:
    """The name of a task's axis."""
    return "fine-tuned top-1, %" if task == "top1" else task


def models_of(rows: Rows) -> list[str]:
    """The models, the small before the large where their sizes are known."""
    sizes = {row["model"]: row["parameters"] or 0.0 for row in rows}
    return sorted(sizes, key=sizes.__getitem__)


def data_colours(rows: Rows) -> dict[str, str]:
    """A colour for each data set: shades of blue for subsets of the source with the most of them."""
    images = {row["data"]: row["images"] or 0.0 for row in rows}
    source = {row["data"]: row["source"] for row in rows}
    ordered = sorted(images, key=images.__getitem__)
    sources = list(source.values())
    usual = max(sources, key=sources.count)
    subsets = [data for data in ordered if source[data] == usual]
    light, dark = _BLUES
    step = (dark - light) / max(1, len(subsets) - 1)
    shades = {data: _blue(dark - i * step) for i, data in enumerate(reversed(subsets))}
    others = [data for data in ordered if data not in shades]
    return {d: shades[d] for d in subsets} | {
        data: _SOURCES[i % len(_SOURCES)] for i, data in enumerate(others)
    }


def _blue(share: float) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["Blues"](share))


def _length_axis(axes: Axes, rows: Rows) -> None:
    """Lengths on a logarithmic axis, marked where they are."""
    lengths = sorted({row["iterations"] for row in rows})
    axes.set_xscale("log")
    if len(lengths) <= 4:
        axes.set_xticks(lengths, [_thousands(length) for length in lengths])
        axes.minorticks_off()
    if len(lengths) > 1:
        axes.set_xlim(lengths[0] / 1.2, lengths[-1] * 1.2)


def _thousands(length: int) -> str:
    return str(length) if length % 1000 else f"{length // 1000}k"
