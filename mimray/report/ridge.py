"""Scores and attention distance over AvgDist, with the paper's ridge, from the table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mimray.report.panels import COLOURS, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mimray.evaluate.table_files import Rows

_MARKERS = {"random": "o", "block": "s", "inverse_block": "P", "square": "D"}
_BAND = "#f3e3bf"
_SCORES = {
    "top1": "fine-tuned top-1, %",
    "knn": "kNN top-1, %",
    "skill": "skill (1 - loss / nearest-pixel fill)",
}
_PLACE = "avgdist_px_at_192"
_LOOKS = "attention_distance_px_at_192"


def ridge_figure(
    rows: Rows, title: str, score: str, ridge: tuple[float, float], notes: dict[str, str]
) -> bytes | None:
    """Draw rows of `mimray.study.sweeps.ridge.COLUMNS` as PNG: `score` (top1, knn or skill) over AvgDist
    and, where any run was analysed, mean attention distance over AvgDist.

    Both in pixels of a picture of 192 px, as the `ridge`. A dot a run, a colour a unit of the mask, a
    shape a strategy, the mask ratio beside it. None where no run has either. `notes`: conventions, for
    under the figure.
    """
    known = {score: _SCORES[score], _LOOKS: "mean attention distance, px at 192 px"}
    drawn = {key: text for key, text in known.items() if any(row[key] is not None for row in rows)}
    if not drawn:
        return None
    figure = new_figure(0.8 + 4.6 * len(drawn), 3.9)
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (key, text) in zip(panels, drawn.items(), strict=True):
        _draw(axes, rows, key, ridge)
        axes.set_xlabel("AvgDist, px at 192 px", fontsize=9)
        axes.set_ylabel(text, fontsize=9)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, frameon=False, fontsize=8, loc="outside right center")
    return png(figure, notes, panels)


def _draw(axes: Axes, rows: Rows, key: str, ridge: tuple[float, float]) -> None:
    factor = 100.0 if key in ("top1", "knn") else 1.0
    units = sorted({row["unit"] for row in rows})
    several = len({row["strategy"] for row in rows}) > 1
    axes.axvspan(
        *ridge, color=_BAND, lw=0, label=f"paper's ridge,\n{ridge[0]:g} to {ridge[1]:g} px"
    )
    for strategy, unit in sorted({(row["strategy"], row["unit"]) for row in rows}):
        own = [row for row in rows if (row["strategy"], row["unit"]) == (strategy, unit)]
        own = [row for row in own if row[key] is not None]
        colour, marker = COLOURS[units.index(unit) % len(COLOURS)], _MARKERS.get(strategy, "o")
        xs, ys = [row[_PLACE] for row in own], [factor * row[key] for row in own]
        spreads = [factor * (row.get(f"{key}_spread") or 0.0) for row in own]
        bars = spreads if any(spreads) else None  # or the legend shows bars that are not there
        name = f"unit {unit} px" + (f", {strategy}" if several else "")
        axes.errorbar(xs, ys, bars, color=colour, marker=marker, ms=5, lw=1, capsize=2, label=name)
        for row, x, y in zip(own, xs, ys, strict=True):
            axes.annotate(f"{row['ratio']:g}", (x, y), (4, 4), textcoords="offset points",
                          fontsize=7, color=colour)  # fmt: skip
    axes.margins(x=0.1, y=0.12)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
