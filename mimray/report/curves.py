"""The loss curve of a run, with validation and both fills, from its rows alone."""

from __future__ import annotations

from typing import Any

from mimray.report.figure import finished

_TRAIN, _VAL, _MEAN, _NEAREST = "#9aa5b1", "#0b6e99", "#b07d2b", "#a23b3b"


def loss_curve(rows: list[dict[str, Any]], title: str) -> bytes:
    """Draw `metrics.jsonl` as PNG: masked loss against pictures seen.

    The fills are horizontal lines: what a prediction is worth that needs no learning. Rows whose
    loss was not finite are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    train = [(r["images"], r["train/loss"]) for r in rows if r.get("train/loss") is not None]
    val = [(r["images"], r["val/loss"]) for r in rows if r.get("val/loss") is not None]
    if train:
        axes.plot(*zip(*smooth(train), strict=True), color=_TRAIN, lw=1.2, label="training")
    if val:
        axes.plot(*zip(*val, strict=True), color=_VAL, lw=2, marker="o", ms=4, label="validation")
        axes.annotate(f"{val[-1][1]:.3f}", val[-1], (0, 7), textcoords="offset points", ha="right",
                      color=_VAL)  # fmt: skip
        fills = next(r for r in reversed(rows) if r.get("val/loss") is not None)
        for key, colour, name in (
            ("val/fill_visible_mean", _MEAN, "fill: mean of the visible pixels"),
            ("val/fill_nearest", _NEAREST, "fill: nearest visible pixel"),
        ):
            if key in fills:  # a target that is classified has none
                label = f"{name} {fills[key]:.3f}"
                axes.axhline(fills[key], color=colour, lw=1.2, ls="--", label=label)
    classified = any("val/top1" in row for row in rows)
    loss = "cross entropy" if classified else "loss on hidden pixels"
    axes.set(xlabel="pictures seen", ylabel=loss, title=title)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    return finished(axes)


def smooth(points: list[tuple[int, float]], width: int = 200) -> list[tuple[int, float]]:
    """Average neighbours so that about `width` points are left: single batches are noisy."""
    size = max(1, len(points) // width)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
