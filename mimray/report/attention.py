"""Attention over layers, models side by side as in Dark Secrets: distance, entropy, divergence of heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mimray.report.panels import (
    COLOURS,
    GREY,
    figures_of,
    from_zero,
    layers_axis,
    legend,
    mean,
    means,
    panels,
    png,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mimray.evaluate.table_files import Rows

_OF_ALL = ("class token", "windows", "padding", "pictures")  # what every figure says of itself

_PAIR = "pair of heads"
_LINEAR = 20.0  # nats: heads that shut out what others look at diverge by hundreds
_TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Nats, on an axis that is logarithmic above 1."""


def attention_figures(
    models: dict[str, str], rows: Rows, pairs: Rows, notes: dict[str, Any]
) -> dict[str, bytes]:
    """Three figures as PNG. `rows`: a layer and head each, `pairs`: two heads each, of all models."""

    def told(name: str) -> dict[str, Any]:
        return {key: notes[key] for key in (name, *_OF_ALL) if key in notes}

    def with_mean(column: str, unit: str) -> dict[str, str]:
        return {
            model: _with_mean(model, text, rows, column, unit) for model, text in models.items()
        }

    return {
        "distance.png": _figure(
            with_mean("distance_px", "px"),
            rows,
            "distance_px",
            "averaged attention distance, px",
            told("distance"),
        ),
        "entropy.png": _figure(
            with_mean("entropy_nats", "nats"),
            rows,
            "entropy_nats",
            "attention entropy, nats",
            told("entropy"),
            "uniform_nats",
        ),
        "divergence.png": _figure(
            with_mean("kl_mean", "nats"),
            pairs,
            "kl_nats",
            "KL between heads, nats",
            told("divergence"),
            of=_PAIR,
        ),
    }


def _figure(
    models: dict[str, str],
    rows: Rows,
    column: str,
    label: str,
    notes: dict[str, Any],
    limit: str | None = None,
    of: str = "head",
) -> bytes:
    figure, (axes,) = panels(models, rows)
    for one, model, colour in zip(axes, models, COLOURS * len(models), strict=False):
        own = [row for row in rows if row["model"] == model]
        if own:
            _draw(one, own, column, colour, of)
            if limit is not None:
                one.plot(*means(own, limit), color=GREY, lw=0.8, ls="--", label="equal shares")
            _numbers(one, own, column, layers_axis(one, own))
        else:
            one.text(0.5, 0.5, "one head a layer", transform=one.transAxes, ha="center", color=GREY)
        one.set_xlabel("block", fontsize=9)
    most = max((row[column] for row in rows), default=0.0)
    if of == _PAIR and most > _LINEAR:
        axes[0].set_yscale("symlog", linthresh=1.0)
        shown = [tick for tick in _TICKS if tick <= most]
        axes[0].set_yticks(shown, [f"{tick:g}" for tick in shown])
        label += "\n(logarithmic above 1)"
    axes[0].set_ylabel(label, fontsize=9)
    from_zero(axes[0])
    legend(figure, axes)
    return png(figure, notes, axes)


def _draw(axes: Axes, rows: Rows, column: str, colour: str, of: str) -> None:
    """Small dots, and the layer's mean as a larger one."""
    layers: dict[int, list[float]] = {}
    for row in rows:
        layers.setdefault(row["index"], []).append(row[column])
    dots = [
        (index + shift, value)
        for index, values in layers.items()
        for shift, value in zip(spread(values), values, strict=True)
    ]
    places, values = means(rows, column)
    small = 9 if of == "head" else 4
    x, y = zip(*dots, strict=True)
    axes.scatter(x, y, s=small, color=colour, alpha=0.35, lw=0, label=f"a {of}")
    axes.plot(places, values, color=colour, lw=1.2, marker="o", ms=5, mec="white", mew=0.6,
              label="mean of the layer")  # fmt: skip


def _numbers(axes: Axes, rows: Rows, column: str, labelled: list[int]) -> None:
    """The means of the layers that are labelled, in a row above all that is drawn."""
    for place, value in zip(*means(rows, column), strict=True):
        if place in labelled:
            decimals = (
                2 if value < 10 else 1 if value < 100 else 0
            )  # neighbours have room for these
            axes.text(place, 0.99, f"{value:.{decimals}f}", transform=axes.get_xaxis_transform(),
                      ha="center", va="top", fontsize=6)  # fmt: skip


def _with_mean(model: str, told: str, rows: Rows, column: str, unit: str) -> str:
    """What is said of a model, with the mean over its heads that the record has."""
    found = mean([row for row in rows if row["model"] == model], column)
    return told if found is None else f"{told}; mean of heads {figures_of(found)} {unit}"
