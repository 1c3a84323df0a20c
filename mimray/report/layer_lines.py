"""A number a layer, a column of panels a model: health of features, and kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mimray.report.panels import COLOURS, GREY, from_zero, layers_axis, legend, panels, png

if TYPE_CHECKING:
    from mimray.evaluate.table_files import Rows


def health_figure(models: dict[str, str], rows: Rows, notes: dict[str, Any]) -> bytes:
    """Draw rows of `effective_rank`, with their `channels`, and below them of `norm` as PNG."""
    figure, (ranks, norms) = panels(models, rows, lines=2)
    for rank, norm, model, colour in zip(ranks, norms, models, COLOURS * len(models), strict=False):
        own = [row for row in rows if row["model"] == model]
        places = [row["index"] for row in own]
        line: dict[str, Any] = {"color": colour, "lw": 1.6, "marker": "o", "ms": 4}
        rank.plot(places, [row["channels"] for row in own], color=GREY, lw=0.8, ls="--",
                  label="channels")  # fmt: skip
        rank.plot(places, [row["effective_rank"] for row in own], **line, label="a layer")
        norm.plot(places, [row["norm"] for row in own], **line)
        for axes in (rank, norm):
            layers_axis(axes, own)
        norm.set_xlabel("block; last: the encoder's output", fontsize=9)
    for line_of, label in ((ranks, "effective rank"), (norms, "mean norm of a position")):
        line_of[0].set_ylabel(label, fontsize=9)
        from_zero(line_of[0])
    legend(figure, ranks)
    return png(figure, notes, [*ranks, *norms])


def kernels_figure(models: dict[str, str], rows: Rows, notes: dict[str, Any]) -> bytes:
    """Draw rows of `distance_px` and `uniform_px`, in the order that the kernels run, as PNG."""
    figure, (every,) = panels(models, rows)
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
    from_zero(every[0])
    legend(figure, every)
    return png(figure, notes, every)
