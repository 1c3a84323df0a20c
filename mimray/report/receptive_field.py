"""Effective receptive fields: a map a stage, models under each other, on one logarithmic scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mimray.report.panels import new_figure, png, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from mimray.evaluate.table_files import Rows

_DECADES = 5  # below the largest pixel of a map
_LINE = "#3ad1ff"  # seen on all of the map's colours


def receptive_field_figure(
    models: dict[str, str],
    rows: Rows,
    maps: dict[str, dict[str, np.ndarray]],
    notes: dict[str, Any],
) -> bytes:
    """Draw `maps` (H, W) of each model's layers as PNG, with the radii in `rows`.

    A map is shown over its largest pixel. The circle holds half of it, the square 99 %.
    """
    from matplotlib.colors import LogNorm

    columns = max(len(own) for own in maps.values())
    figure = new_figure(1.2 + 2.1 * columns, 0.7 + 2.3 * len(models))
    places = figure.subplots(len(models), columns, squeeze=False)
    norm = LogNorm(10.0**-_DECADES, 1.0, clip=True)
    images = []
    for line, (model, told) in zip(places, models.items(), strict=True):
        own = {row["layer"]: row for row in rows if row["model"] == model}
        for axes in line[len(own) :]:
            axes.set_visible(False)
        for axes, (layer, row) in zip(line, own.items(), strict=False):
            images.append(_draw(axes, maps[model][layer], row, norm))
        line[0].set_ylabel(f"{shortened(model)}\n{told}", fontsize=7)
    bar = figure.colorbar(images[0], ax=list(figure.axes), shrink=0.8, pad=0.02)
    bar.set_label("gradient, over the map's largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return png(
        figure, {"circle": "half of the map", "square": "99 % of it, here by half its side"} | notes
    )


def _draw(axes: Axes, shares: np.ndarray, row: dict[str, Any], norm: Any) -> AxesImage:
    from matplotlib.patches import Circle, Rectangle

    high, wide = shares.shape
    image = axes.imshow(shares / shares.max(), cmap="magma", norm=norm, extent=(0, wide, high, 0))
    centre = (row["centre_column_px"], row["centre_row_px"])
    radius, half = row["radius_px"], row["side_99_px"] / 2
    line: dict[str, Any] = {"fill": False, "edgecolor": _LINE, "lw": 1.0}
    axes.add_patch(Circle(centre, radius, **line))
    corner = (centre[0] - half, centre[1] - half)
    axes.add_patch(Rectangle(corner, 2 * half, 2 * half, ls="--", **line))
    axes.set(xlim=(0, wide), ylim=(high, 0), xticks=(), yticks=())
    axes.set_title(f"{row['layer']}\nhalf {radius:.1f} px, 99 % {half:.0f} px", fontsize=7)
    return image
