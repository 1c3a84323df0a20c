"""What is left of a score when the last layers are dropped, model beside model, from the table alone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mimray.report.panels import COLOURS, new_figure, png, shortened

if TYPE_CHECKING:
    from mimray.evaluate.table_files import Rows

_METRICS = {"top1": "top-1", "mean_per_class": "mean per class"}
_APART = 0.05  # shares of the smallest step between counts, so that bars do not hide each other


def layer_drop_curve(rows: Rows, title: str, notes: dict[str, str]) -> bytes:
    """Draw rows of `checkpoint`, `kind`, `drop`, `remain`, `mean`, `spread`, `scores` as PNG.

    A line through the means of each checkpoint, a dot a seed, bars of a sample standard deviation where
    there are two seeds or more, and dotted its own score with all layers. `notes`: conventions, for under
    the figure.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    checkpoints = list(dict.fromkeys(row["checkpoint"] for row in rows))
    counts = sorted({row["drop"] for row in rows})
    step = _APART * min((b - a for a, b in pairwise(counts)), default=1)
    for number, checkpoint in enumerate(checkpoints):
        own = [row for row in rows if row["checkpoint"] == checkpoint and row["mean"] is not None]
        if not own:
            continue
        colour, shift = COLOURS[number % len(COLOURS)], step * (number - (len(checkpoints) - 1) / 2)
        places, means = [row["drop"] + shift for row in own], [100 * row["mean"] for row in own]
        spreads = [100 * (row["spread"] or 0.0) for row in own]
        axes.errorbar(places, means, spreads, color=colour, lw=2, capsize=3,
                      label=f"{shortened(checkpoint)} ({own[0]['kind']})")  # fmt: skip
        axes.scatter(
            [row["drop"] + shift for row in own for _ in row["scores"]],
            [100 * score for row in own for score in row["scores"]],
            color=colour, s=14, alpha=0.6,
        )  # fmt: skip
        if own[0]["drop"] == 0:
            axes.axhline(means[0], color=colour, lw=1, ls=":")
    axes.set_xticks(counts, [f"{count}\n{_remain(rows, count)}" for count in counts])
    axes.set_xlabel("last layers dropped (below: blocks left in each stage)", fontsize=9)
    axes.set_ylabel(f"{_METRICS.get(rows[0]['metric'], rows[0]['metric'])}, %", fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:  # nothing is known before the first run has ended
        axes.legend(frameon=False, fontsize=8)
    return png(figure, notes, [axes])


def _remain(rows: Rows, count: int) -> str:
    """One line where all encoders are alike, else one for each."""
    return "\n".join(dict.fromkeys(row["remain"] for row in rows if row["drop"] == count))
