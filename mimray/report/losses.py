"""Loss curves of runs side by side with their verdicts, and pictures with their losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mimray.report.curves import smooth
from mimray.report.panels import new_figure, png, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mimray.evaluate.loss_curves import Curves

_TRAIN, _VAL, _ALARM = "#9aa5b1", "#0b6e99", "#a23b3b"
_ACROSS = 3  # panels in a row
_COLUMNS = 6  # pictures in a row
_NARROWEST = 4.5  # inches that a title takes
_WORDS = {"over-fits": "over-fits", "rises": "rises, as training does"}


def loss_panels(runs: Mapping[str, Curves], notes: dict[str, str]) -> bytes:
    """Draw a panel a run as PNG: training and validation loss against pictures seen.

    Panels do not share an axis, for losses under different masks or of different targets do not compare.
    Where the verdict is a rise, its stretch is red, over a band of what may be noise. `notes`: the rule,
    for under the figure.
    """
    across = min(_ACROSS, len(runs))
    down = -(-len(runs) // across)
    figure = new_figure(max(6.0, 3.8 * across), 0.3 + 3.1 * down)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (name, curves) in zip(panels, runs.items(), strict=False):
        _draw(axes, name, curves)
    for empty in panels[len(runs) :]:
        empty.set_axis_off()
    return png(figure, notes, panels)


def _draw(axes: Axes, name: str, curves: Curves) -> None:
    if curves.train:
        alone = "o" if len(curves.train) == 1 else ""  # no line goes through one point
        axes.plot(*zip(*smooth(curves.train), strict=True), color=_TRAIN, lw=1, marker=alone, ms=3,
                  label="training")  # fmt: skip
    if curves.val:
        places = [images for images, _ in curves.val]
        axes.plot(
            *zip(*curves.val, strict=True), color=_VAL, lw=0, marker="o", ms=3, label="validation"
        )
        axes.plot(places, curves.trend, color=_VAL, lw=1.5, label="its running median")
        if curves.verdict in _WORDS:
            best, low = curves.best, curves.trend[curves.best]
            axes.plot(places[best:], curves.trend[best:], color=_ALARM, lw=2,
                      label=f"{_WORDS[curves.verdict]}: {curves.rise:+.4f}")  # fmt: skip
            axes.axvline(places[best], color=_ALARM, lw=0.8, ls=":")
            axes.axhspan(low, low + curves.threshold, color=_ALARM, alpha=0.12, lw=0,
                         label="may be noise")  # fmt: skip
    axes.set_title(shortened(name), fontsize=10)
    axes.set_xlabel("pictures seen", fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)


def picture_sheet(
    groups: Mapping[str, list[tuple[np.ndarray, dict[str, Any]]]], title: str, notes: dict[str, str]
) -> bytes:
    """Draw groups of pictures as PNG, each under its heading, row, loss and skill over every picture.

    A picture is uint8 (H, W, 3) with a row of `row`, `loss` and `skill`, which may be None.
    """
    columns = min(_COLUMNS, max(len(pictures) for pictures in groups.values()))
    lines = [-(-len(pictures) // columns) for pictures in groups.values()]
    figure = new_figure(max(_NARROWEST, 1.5 * columns), 0.6 + 2.0 * sum(lines))
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=lines)[:, 0]
    for part, down, (heading, pictures) in zip(parts, lines, groups.items(), strict=True):
        part.suptitle(heading, x=0.01, ha="left", fontsize=10)
        panels = part.subplots(down, columns, squeeze=False).flatten()
        for axes in panels:
            axes.set_axis_off()
        for axes, (pixels, row) in zip(panels, pictures, strict=False):
            skill = "" if row["skill"] is None else f"\nskill {row['skill']:+.2f}"
            axes.imshow(pixels)
            axes.set_title(f"row {row['row']}: {row['loss']:.3f}{skill}", fontsize=7)
    return png(figure, notes)
