"""Where figures of what models do inside put which number, read from the figure as it is saved."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.patches import Circle, Rectangle

from mimray.report.attention import attention_figures
from mimray.report.cka import cka_figure
from mimray.report.layer_lines import health_figure, kernels_figure
from mimray.report.receptive_field import receptive_field_figure

pytestmark = pytest.mark.unit
NOTES = {"pictures": "120 of photos", "class token": "dropped"}


def layers(model, count, **columns):
    """A row a layer, the last of them the encoder's output; `columns`: what layer i has."""
    return [
        {"model": model, "layer": "last" if index == count else f"block {index}"}
        | {"index": index, "stage": 1}
        | {name: of(index) for name, of in columns.items()}
        for index in range(1, count + 1)
    ]


def ticks(axes):
    return {
        round(place): tick.get_text()
        for place, tick in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }


def shown(axes, row):
    low, high = axes.get_xlim()
    return low < row["index"] < high


# ----- layers -------------------------------------------------------------------------------------------


def health(model, count):
    return layers(
        model,
        count,
        effective_rank=lambda i: 10.0 + i,
        norm=lambda i: 2.0 * i,
        channels=lambda i: 64,
    )


def test_health_is_rank_above_norm(saved):
    rows = health("a", 3)
    health_figure({"a": "x"}, rows, NOTES)
    rank, norm = saved[0].axes
    assert rank.get_ylabel() == "effective rank" and norm.get_ylabel() == "mean norm of a position"
    channels, ranks = (line.get_ydata().tolist() for line in rank.lines)
    assert (ranks, channels) == ([11.0, 12.0, 13.0], [64, 64, 64])
    assert [line.get_ydata().tolist() for line in norm.lines] == [[2.0, 4.0, 6.0]]


def test_models_of_other_depths_have_their_own_layers(saved):
    rows = health("deep", 25) + health("flat", 9)
    health_figure({"deep": "x", "flat": "y"}, rows, NOTES)
    for number, axes in enumerate(saved[0].axes):
        own = [row for row in rows if row["model"] == ("deep", "flat")[number % 2]]
        assert all(shown(axes, row) for row in own) and len(axes.lines[-1].get_xdata()) == len(own)
        assert ticks(axes)[len(own)] == "last" and len(ticks(axes)) <= 14
    assert ticks(saved[0].axes[1])[8] == "8"


def test_panels_of_many_layers_are_wider(saved):
    rows = layers("deep", 28, distance_px=float, uniform_px=float) + layers(
        "flat", 7, distance_px=float, uniform_px=float
    )
    kernels_figure({"deep": "x", "flat": "y"}, rows, NOTES)
    (figure,) = saved
    assert figure.axes[0].get_gridspec().get_width_ratios() == pytest.approx([6.8, 3.4])
    assert figure.get_figwidth() == pytest.approx(1.0 + 6.8 + 3.4)


# ----- attention ----------------------------------------------------------------------------------------


def attention(count, kl=1.0):
    rows = layers(
        "a",
        count,
        head=lambda i: 1,
        distance_px=lambda i: 12.5 * i,
        entropy_nats=float,
        uniform_nats=lambda i: 30.0,
        kl_mean=lambda i: kl,
    )
    return rows, [row | {"other_head": 2, "kl_nats": kl} for row in rows]


@pytest.mark.parametrize(("count", "numbered"), [(6, 6), (14, 14), (24, 12)])
def test_numbers_stand_in_a_row_above_the_dots(saved, count, numbered):
    attention_figures({"a": "x"}, *attention(count), NOTES)
    figure = saved[0]
    axes = figure.axes[0]
    figure.draw_without_rendering()
    numbers = [text for text in axes.texts if text.get_transform() == axes.get_xaxis_transform()]
    boxes = [text.get_window_extent() for text in numbers]
    assert len(numbers) == numbered and numbers[0].get_text() == "12.5"
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    dots = axes.transData.transform([(1.0, 12.5 * count)])[0, 1]
    assert dots < min(box.y0 for box in boxes) and max(box.y1 for box in boxes) <= axes.bbox.y1
    assert axes.get_ylim() == pytest.approx((0.0, 1.08 * 12.5 * count))


def test_a_logarithmic_axis_has_plain_numbers(saved):
    attention_figures({"a": "x"}, *attention(3, kl=60.0), NOTES)
    axes = saved[2].axes[0]
    texts = [tick.get_text() for tick in axes.get_yticklabels()]
    assert axes.get_yscale() == "symlog" and "logarithmic above 1" in axes.get_ylabel()
    assert texts == ["0", "0.5", "1", "2", "5", "10", "20", "50"]
    assert axes.get_yticks().tolist() == [float(text) for text in texts]
    assert axes.get_ylim()[0] == 0.0 and axes.get_ylim()[1] > 60.0


# ----- maps ---------------------------------------------------------------------------------------------


def cka_of(model, other, down, across):
    pair = {"model": model, "other_model": other, "cka": 0.5}
    return [
        pair | {"layer": f"block {i}", "index": i, "other": f"block {j}", "other_index": j}
        for i in range(1, down + 1)
        for j in range(1, across + 1)
    ]


def test_cka_s_panels_are_equally_large_and_named(saved):
    depths = {"a": 3, "b": 5, "c": 8}
    pairs = [(x, x) for x in depths] + [("a", "b"), ("a", "c"), ("b", "c")]
    rows = [row for x, y in pairs for row in cka_of(x, y, depths[x], depths[y])]
    cka_figure(dict.fromkeys(depths, "x"), rows, NOTES)
    (figure,) = saved
    figure.draw_without_rendering()
    panels = figure.axes[: len(pairs)]
    assert {tuple(np.round(axes.bbox.size)) for axes in panels} == {
        tuple(np.round(panels[0].bbox.size))
    }
    assert [axes.get_title() for axes in panels] == ["a", "b", "c", "a and b", "a and c", "b and c"]
    assert panels[4].images[0].get_array().shape == (3, 8)
    assert (panels[4].get_xlim(), panels[4].get_ylim()) == ((-0.5, 7.5), (-0.5, 2.5))  # and no more


def receptive_field(saved, side_99):
    row = {"model": "a", "layer": "block 6", "radius_px": 4.0, "side_99_px": side_99}
    row |= {"centre_column_px": 18.0, "centre_row_px": 17.0}
    maps = {"a": {"block 6": np.full((32, 32), 1 / 1024, np.float32)}}
    receptive_field_figure({"a": "x"}, [row], maps, NOTES)
    return saved[-1].axes[0], saved[-1].get_supxlabel()


def test_the_circle_has_half_and_the_square_99_percent(saved):
    axes, below = receptive_field(saved, 20.0)
    circle, square = axes.patches
    assert isinstance(circle, Circle) and circle.center == (18.0, 17.0) and circle.radius == 4.0
    assert isinstance(square, Rectangle) and square.get_bbox().bounds == (8.0, 7.0, 20.0, 20.0)
    assert axes.get_title() == "block 6\nhalf 4.0 px, 99 % within ±10 px"
    assert axes.get_xlim() == (0.0, 32.0) and axes.get_ylim() == (32.0, 0.0) and "grey" not in below


def test_the_frame_holds_a_square_that_goes_over_the_picture(saved):
    axes, below = receptive_field(saved, 40.0)
    square = axes.patches[1].get_bbox()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < square.x0 and square.x1 < right and top < square.y0 and square.y1 < bottom
    assert axes.images[0].get_extent() == [0, 32, 32, 0] and "grey: outside" in below


# ----- conventions --------------------------------------------------------------------------------------


DRAWN = {
    "attention": lambda: attention_figures({"a": "x"}, *attention(3), NOTES),
    "cka": lambda: cka_figure({"a": "x"}, cka_of("a", "a", 3, 3), NOTES),
    "health": lambda: health_figure({"a": "x"}, health("a", 3), NOTES),
    "kernels": lambda: kernels_figure(
        {"a": "x"}, layers("a", 3, distance_px=float, uniform_px=float), NOTES
    ),
}


def stands_under(figure):
    """Whether the conventions do: below all panels, and within the figure."""
    text = figure._supxlabel
    figure.draw_without_rendering()
    box = text.get_window_extent()
    inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
    below = all(box.y1 <= axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    return inside and below and all(f"{n}: {told}" in text.get_text() for n, told in NOTES.items())


@pytest.mark.parametrize("name", [*DRAWN, "receptive field"])
def test_conventions_stand_under_every_figure(saved, name):
    receptive_field(saved, 20.0) if name == "receptive field" else DRAWN[name]()
    assert saved and all(stands_under(figure) for figure in saved)
