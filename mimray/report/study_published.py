"""A study's curves laid over the published ones.

Losses of other pictures and other masks do not compare in height. What compares is how they change with
length, so beside the curves as they are stand the changes from each pair's shortest length.
"""

from __future__ import annotations

from typing import Any

from mimray.report.panels import legend_below, new_figure, png
from mimray.report.study import Rows, data_colours, models_of, score_of, task_label

_PUBLISHED = "#a7b0b8"
_STYLES = ("-", "--", ":", "-.")


def over_published(rows: Rows, published: Rows, title: str, task: str) -> bytes:
    """Draw a PNG of three panels: loss against length, its change, and the score against the loss."""
    figure = new_figure(12.0, 4.6)
    grid = list(figure.subplots(1, 3))
    colours = data_colours(rows)
    styles = {m: _STYLES[i % len(_STYLES)] for i, m in enumerate(models_of(rows))}
    for runs in _pairs(published):
        _draw(grid, runs, task, _PUBLISHED, "-", 0.9)
    for runs in _pairs(rows):
        _draw(grid, runs, task, colours[runs[0]["data"]], styles[runs[0]["model"]], 1.8)
    grid[0].set(xscale="log", xlabel="iterations", ylabel="validation loss")
    grid[1].set(
        xscale="log", xlabel="length / shortest length",
        ylabel="validation loss / that at the shortest length",
    )  # fmt: skip
    grid[1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    grid[1].xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if value in (2, 4, 20) else "")
    grid[2].set(xlabel="validation loss", ylabel=task_label(task))
    handles = grid[0].plot([], [], color=_PUBLISHED, label="published: SwinV2 on ImageNet")
    handles += [grid[0].plot([], [], color=c, lw=1.8, label=d)[0] for d, c in colours.items()]
    handles += [grid[0].plot([], [], color="#333333", ls=s, label=m)[0] for m, s in styles.items()]
    figure.suptitle(title, fontsize=11)
    legend_below(figure, handles)
    for axes in grid:
        axes.grid(alpha=0.25)
        axes.tick_params(which="minor", labelsize=8)
    return png(figure, {}, grid)


def _draw(
    grid: list[Any], runs: list[dict[str, Any]], task: str, colour: str, style: str, width: float
) -> None:
    first = runs[0]
    lengths = [run["iterations"] for run in runs]
    losses = [run["val_loss"] for run in runs]
    look = {"color": colour, "ls": style, "lw": width, "marker": "o", "ms": 1.6 * width}
    grid[0].plot(lengths, losses, **look)
    grid[1].plot(
        [length / first["iterations"] for length in lengths],
        [loss / first["val_loss"] for loss in losses],
        **look,
    )
    scored = [(run["val_loss"], y) for run in runs if (y := score_of(task)(run)) is not None]
    if scored:
        grid[2].plot(*zip(*scored, strict=True), **look)


def _pairs(rows: Rows) -> list[list[dict[str, Any]]]:
    """The runs of each model and data set, the shortest first."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["iterations"]):
        found.setdefault((row["model"], row["data"]), []).append(row)
    return list(found.values())
