"""A number a layer: health of features, all models in one panel, and kernels, a panel a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mimray.report.panels import (
    COLOURS,
    GREY,
    layers_axis,
    legend,
    new_figure,
    panels,
    png,
    shortened,
)

if TYPE_CHECKING:
    from mimray.evaluate.table_files import Rows


def health_figure(models: dict[str, str], rows: Rows, notes: dict[str, Any]) -> bytes:
    """Draw rows of `effective_rank` and `norm` as PNG; thin lines are the layers' channels."""
    figure = new_figure(8.4, 3.6)
    ranks, norms = figure.subplots(1, 2)
    for model, colour in zip(models, COLOURS * len(models), strict=False):
        own = [row for row in rows if row["model"] == model]
        places = [row["index"] for row in own]
        line = {"color": colour, "lw": 1.6, "marker": "o", "ms": 4, "label": shortened(model)}
        ranks.plot(places, [row["effective_rank"] for row in own], **line)
        ranks.plot(places, [row["channels"] for row in own], color=colour, lw=0.8, ls="--")
        norms.plot(places, [row["norm"] for row in own], **line)
        for axes in (ranks, norms):
            layers_axis(axes, own)
    for axes, label in (
        (ranks, "effective rank (dashed: channels)"),
        (norms, "mean norm of a position"),
    ):
        axes.set_ylabel(label, fontsize=9)
        axes.set_xlabel("block; last: the encoder's output", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)
    legend(figure, [ranks])
    return png(figure, notes, (ranks, norms))


def kernels_figure(models: dict[str, str], rows: Rows, notes: dict[str, Any]) -> bytes:
    """Draw rows of `distance_px` and `uniform_px`, in the order that the kernels run, as PNG."""
    figure, every = panels(models)
    for axes, model, colour in zip(every, models, COLOURS * len(models), strict=False):
        own = [row for row in rows if row["model"] == model]
        places = [row["index"] for row in own]
        axes.plot(places, [row["uniform_px"] for row in own], color=GREY, lw=0, marker="_", ms=11,
                  label="equal weights")  # fmt: skip
        axes.plot(places, [row["distance_px"] for row in own], color=colour, lw=0, marker="o", ms=5,
                  label="the kernel's")  # fmt: skip
        layers_axis(axes, own)
        axes.set_xlabel("kernel, in the order they run", fontsize=9)
    every[0].set_ylabel("distance from the kernel's centre, px", fontsize=9)
    every[0].set_ylim(bottom=0)
    legend(figure, every)
    return png(figure, notes, every)
