"""Effective receptive fields: a map a stage, models under each other, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mimray.report.panels import new_figure, png, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from mimray.evaluate.table_files import Rows

_DECADES = 5  # below the largest pixel of a map
_LINE = "#3ad1ff"  # seen on all of the map's colours
_OUTSIDE = "#d5dae0"  # beyond the picture's border
_AIR = 0.02  # shares of the picture's width about a square


def receptive_field_figure(
    models: dict[str, str],
    rows: Rows,
    maps: dict[str, dict[str, np.ndarray]],
    notes: dict[str, Any],
) -> bytes:
    """Draw `maps` (H, W) of each model's layers as PNG, with the radii in `rows`.

    A map is shown over its largest pixel. The circle holds half of it, the square 99 %. Where a square
    goes over the picture's border, all maps of its model have a frame that holds it.
    """
    from matplotlib.colors import LogNorm

    columns = max(len(own) for own in maps.values())
    figure = new_figure(1.2 + 2.1 * columns, 0.7 + 2.3 * len(models))
    places = figure.subplots(len(models), columns, squeeze=False)
    norm = LogNorm(10.0**-_DECADES, 1.0, clip=True)
    images, beyond = [], False
    for line, (model, told) in zip(places, models.items(), strict=True):
        own = {row["layer"]: row for row in rows if row["model"] == model}
        for axes in line[len(own) :]:
            axes.set_visible(False)
        for axes, (layer, row) in zip(line, own.items(), strict=False):
            images.append(_draw(axes, maps[model][layer], row, norm))
        high, wide = next(iter(maps[model].values())).shape
        beyond |= _frame(line[: len(own)], high, wide, list(own.values()))
        line[0].set_ylabel(f"{shortened(model)}\n{told}", fontsize=7)
    bar = figure.colorbar(images[0], ax=list(figure.axes), shrink=0.8, pad=0.02)
    bar.set_label("gradient, over the map's largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    drawn = {"circle": "half of the map", "square": "99 % of it"}
    if beyond:
        drawn["grey"] = "outside the picture"
    return png(figure, drawn | notes)


def _draw(axes: Axes, shares: np.ndarray, row: dict[str, Any], norm: Any) -> AxesImage:
    from matplotlib.patches import Circle, Rectangle

    high, wide = shares.shape
    image = axes.imshow(shares / shares.max(), cmap="magma", norm=norm, extent=(0, wide, high, 0))
    (x, y), radius, half = _centre(row), row["radius_px"], row["side_99_px"] / 2
    line: dict[str, Any] = {"fill": False, "edgecolor": _LINE, "lw": 1.0}
    axes.add_patch(Circle((x, y), radius, **line))
    axes.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, ls="--", **line))
    axes.set_title(f"{row['layer']}\nhalf {radius:.1f} px, 99 % within ±{half:.0f} px", fontsize=7)
    return image


def _frame(panels: Sequence[Axes], high: float, wide: float, rows: Rows) -> bool:
    """The same for all maps of a model: the picture, and every square as a whole; whether one goes over."""
    left, right, top, bottom = 0.0, wide, 0.0, high
    for row in rows:
        (x, y), half = _centre(row), row["side_99_px"] / 2 + _AIR * wide
        left, right = min(left, x - half), max(right, x + half)
        top, bottom = min(top, y - half), max(bottom, y + half)
    for axes in panels:
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=(), yticks=(), facecolor=_OUTSIDE)
    return (left, right, top, bottom) != (0.0, wide, 0.0, high)


def _centre(row: dict[str, Any]) -> tuple[float, float]:
    return row["centre_column_px"], row["centre_row_px"]
