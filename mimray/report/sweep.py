"""A sweep's figures, from its table alone: a heat map of mask ratio x unit, and worth over AvgDist."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mimray.report.panels import GREY, new_figure, png
from mimray.report.ridge import ridge_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = list[dict[str, Any]]

_RIDGE_SCORES = {
    "val/skill": "skill",
    "val/reference_skill": "skill",
    "finetune/top1": "top1",
    "knn/top1": "knn",
}
"""Metrics that `ridge_figure` has an axis for, and its name of it."""
_DARK = 0.55  # of the colours; figures on darker ones are white


def heat_map(
    rows: Rows,
    title: str,
    metric: str,
    label: str,
    notes: dict[str, str],
    best: dict[str, Any] | None,
) -> bytes | None:
    """Draw `objective` of rows by `ratio` and `unit` as PNG, a panel a `strategy`; None where no panel
    would have two ratios and two units.

    A field is the best of its rows that are finished: where other settings vary, a mean would be of those
    that were not ended early. One whose rows were all ended has a cross, one that is still to come is
    empty. Framed is the mask of the row `best`, the one that `best.yaml` is made of. `notes`: conventions,
    for under the figure.
    """
    strategies = [s for s in dict.fromkeys(row["strategy"] for row in rows) if _is_grid(rows, s)]
    factor = 1.0 if metric.startswith("val/") else 100.0
    sizes = [_axes_of(rows, strategy) for strategy in strategies]
    values = [
        [[_best(rows, strategy, unit, ratio, factor) for ratio in ratios] for unit in units]
        for strategy, (units, ratios) in zip(strategies, sizes, strict=True)
    ]
    known = [value for table in values for line in table for value in line if not math.isnan(value)]
    if not known:
        return None
    wide = sum(len(ratios) for _, ratios in sizes)
    tall = max(len(units) for units, _ in sizes)
    figure = new_figure(2.4 + 0.62 * wide + 0.6 * len(sizes), 1.7 + 0.55 * tall)
    panels = figure.subplots(
        1, len(sizes), squeeze=False, width_ratios=[len(ratios) for _, ratios in sizes]
    )[0]
    for axes, strategy, size, table in zip(panels, strategies, sizes, values, strict=True):
        own = [row for row in rows if row["strategy"] == strategy]
        framed = best and best["strategy"] == strategy and (best["unit"], best["ratio"])
        drawn = _draw(
            axes,
            own,
            size,
            table,
            (min(known), max(known)),
            framed or None,
            3 if factor == 1.0 else 1,
        )
        axes.set_title(strategy if len(sizes) > 1 else "", fontsize=9)
    panels[0].set_ylabel("mask unit, px", fontsize=9)
    bar = figure.colorbar(drawn, ax=list(panels), fraction=0.05, pad=0.02)
    bar.set_label(label if factor == 1.0 else f"{label}, %", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=11)
    return png(figure, notes)


def over_avgdist(
    rows: Rows, title: str, metric: str, ridge: tuple[float, float], notes: dict[str, str]
) -> bytes | None:
    """Draw `objective` over AvgDist as `mimray analyze ridge` does, with a bar of a `deviation` where rows
    have one; None where nothing is finished, or all masks are alike."""
    known = [row for row in rows if row["objective"] is not None]
    score = _RIDGE_SCORES[metric]
    if len({row["avgdist_px_at_192"] for row in known}) < 2:
        return None
    points = [
        row
        | {
            score: row["objective"],
            f"{score}_spread": row.get("deviation"),
            "attention_distance_px_at_192": None,
        }
        for row in known
    ]
    return ridge_figure(points, title, score, ridge, notes)


def _is_grid(rows: Rows, strategy: str) -> bool:
    return all(len(values) > 1 for values in _axes_of(rows, strategy))


def _axes_of(rows: Rows, strategy: str) -> tuple[list[int], list[float]]:
    own = [row for row in rows if row["strategy"] == strategy]
    return sorted({row["unit"] for row in own}), sorted({row["ratio"] for row in own})


def _draw(
    axes: Axes,
    rows: Rows,
    size: tuple[list[int], list[float]],
    values: list[list[float]],
    limits: tuple[float, float],
    framed: tuple[int, float] | None,
    digits: int,
) -> Any:
    units, ratios = size
    drawn = axes.imshow(values, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto",
                        origin="lower")  # fmt: skip
    low, high = limits
    for y, unit in enumerate(units):
        for x, ratio in enumerate(ratios):
            value = values[y][x]
            if math.isnan(value):
                ended = any(row["status"] == "ended" for row in _at(rows, unit, ratio))
                axes.text(x, y, "×" if ended else "", ha="center", va="center", color=GREY)
                continue
            dark = high == low or (value - low) / (high - low) < _DARK
            axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
            if (unit, ratio) == framed:
                axes.add_patch(_frame(x, y))
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios], fontsize=8)
    axes.set_yticks(range(len(units)), [str(unit) for unit in units], fontsize=8)
    axes.set_xlabel("mask ratio", fontsize=9)
    return drawn


def _at(rows: Rows, unit: int, ratio: float) -> Rows:
    return [row for row in rows if (row["unit"], row["ratio"]) == (unit, ratio)]


def _best(rows: Rows, strategy: str, unit: int, ratio: float, factor: float) -> float:
    """Over what else the rows differ in; NaN where nothing is finished."""
    own = [row for row in _at(rows, unit, ratio) if row["strategy"] == strategy]
    return factor * max(
        (r["objective"] for r in own if r["objective"] is not None), default=math.nan
    )


def _frame(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, edgecolor="#a23b3b", lw=2)
