"""What a study's figures show, read from the figures as they are when they are saved."""

import pytest
from matplotlib.colors import to_hex, to_rgba

from mimray.report.study import FINE, OVERFITTING, curves, data_colours
from mimray.report.study_proxy import (
    predicted_against_actual,
    score_against_loss,
    train_against_val,
)
from mimray.report.study_published import over_published

pytestmark = pytest.mark.unit

MODELS = {"large": 2e8, "small": 5e7}  # drawn the small before the large
DATA = {"x": 1e6, "x 10%": 1e5, "other": 2e6}
LENGTHS = (2000, 4000, 8000)


def row(model, data, length, loss, train=None, top1=None):
    """`small` over-fits on a tenth."""
    return {
        "model": model, "data": data, "source": "other" if data == "other" else "x",
        "parameters": MODELS[model], "images": DATA[data], "iterations": length, "val_loss": loss,
        "train_loss": train, "scores": {} if top1 is None else {"top1": top1},
        "overfitting": (model, data) == ("small", "x 10%"),
    }  # fmt: skip


def losses(model, data):
    """Distinct for each pair, rising for the one that over-fits."""
    start = 0.5 + 0.15 * list(MODELS).index(model) + 0.04 * list(DATA).index(data)
    step = 0.01 if (model, data) == ("small", "x 10%") else -0.01
    return [start + step * i for i in range(len(LENGTHS))]


ROWS = [
    row(model, data, length, loss, train=loss - 0.2, top1=90 - 10 * loss)
    for model in MODELS
    for data in DATA
    for length, loss in reversed(list(zip(LENGTHS, losses(model, data), strict=True)))
]
RISING = [r for r in ROWS if r["overfitting"]]
FALLING = [r for r in ROWS if not r["overfitting"]]


def points(line):
    return [(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]


def drawn(axes):
    """Lines with points, without a legend's own."""
    return [line for line in axes.lines if len(line.get_xdata())]


def legend(figure):
    (one,) = figure.legends
    return dict(zip((t.get_text() for t in one.get_texts()), one.legend_handles, strict=True))


# ----- curves -------------------------------------------------------------------------------------------


def test_curves_are_a_column_a_model_with_the_loss_above_the_score(saved):
    curves(ROWS, "my study", "top1")
    (figure,) = saved
    assert figure.get_suptitle() == "my study"
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in above] == ["small", "large"] and len(below) == 2
    assert [axes.get_ylabel() for axes in (above[0], below[0])] == [
        "validation loss", "fine-tuned top-1, %",
    ]  # fmt: skip
    assert {axes.get_xlabel() for axes in below} == {"iterations"}
    for axes in figure.axes:
        assert axes.get_xscale() == "log" and axes.get_xticks().tolist() == list(LENGTHS)
    for axes in below:  # one axis for both rows
        assert [label.get_text() for label in axes.get_xticklabels()] == ["2k", "4k", "8k"]


def test_curves_are_lines_by_length_dashed_where_the_pair_over_fits(saved):
    curves(ROWS, "t", "top1")
    small, large, scores, _ = saved[0].axes
    colours = data_colours(ROWS)
    by_colour = {to_hex(line.get_color()): line for line in drawn(small)}
    assert len(by_colour) == 3
    for data, colour in colours.items():
        line = by_colour[colour]
        wanted = zip(LENGTHS, losses("small", data), strict=True)
        assert points(line) == pytest.approx([pytest.approx(point) for point in wanted])
        assert line.get_linestyle() == ("--" if data == "x 10%" else "-")
    assert {line.get_linestyle() for line in drawn(large)} == {"-"}
    assert points(drawn(scores)[0])[0] == (
        2000,
        pytest.approx(90 - 10 * losses("small", "x 10%")[0]),
    )


def test_curves_name_each_colour_and_the_dashes(saved):
    curves(ROWS, "t", "top1")
    named = legend(saved[0])
    colours = data_colours(ROWS)
    assert {n: to_hex(h.get_color()) for n, h in named.items() if n != "over-fits"} == colours
    assert named["over-fits"].get_linestyle() == "--"
    assert list(colours) == ["x 10%", "x", "other"] and len(set(colours.values())) == 3


def test_where_nothing_over_fits_no_legend_says_so(saved):
    fine = [row | {"overfitting": False} for row in ROWS]
    curves(fine, "t", "top1")
    score_against_loss(fine, "t", ["top1"])
    for figure in saved:
        assert not any("over-fit" in name for name in legend(figure))


def test_every_data_set_has_its_own_colour():
    for source in (lambda n: "x", lambda n: f"x{n}"):
        rows = [ROWS[0] | {"data": f"set {n}", "source": source(n), "images": n} for n in range(11)]
        assert len(set(data_colours(rows).values())) == 11


def test_long_names_stay_within_the_figure(saved):
    long = {"small": "a" * 60, "large": "b" * 70}
    rows = [
        row | {"model": long[row["model"]], "data": "photographs " * 4 + row["data"]}
        for row in ROWS
    ]
    curves(rows, "t", "top1")
    score_against_loss(rows, "t", ["top1"])
    for figure in saved:
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    titles = [axes.title.get_window_extent() for axes in saved[0].axes[:2]]
    assert titles[0].x1 < titles[1].x0


def test_a_study_without_scores_has_its_losses_alone(saved):
    curves([r | {"scores": {}} for r in ROWS], "t", "top1")
    assert [axes.get_ylabel() for axes in saved[0].axes] == ["validation loss", ""]


# ----- scores against losses ----------------------------------------------------------------------------


def by_face(axes):
    """Points of an axes: those with a filled mark, and those with an open one."""
    found = {"filled": set(), "open": set()}
    for scatter in axes.collections:
        for place in scatter.get_offsets():
            kind = "filled" if len(scatter.get_facecolors()) else "open"
            found[kind].add(tuple(round(float(v), 6) for v in place))
    return found


def wanted(rows, x, y):
    return {(round(x(r), 6), round(y(r), 6)) for r in rows}


def test_scores_stand_against_both_losses_with_over_fitting_runs_apart(saved):
    rows = [r | {"scores": r["scores"] | {"coco": r["val_loss"] * 50}} for r in ROWS]
    score_against_loss(rows, "t", ["top1", "coco"])
    (figure,) = saved
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [
        (loss, task)
        for loss in ("validation loss", "training loss")
        for task in ("fine-tuned top-1, %", "coco")
    ]
    for axes, (x, y) in zip(
        figure.axes,
        [(x, y) for x in ("val_loss", "train_loss") for y in ("top1", "coco")],
        strict=True,
    ):
        fine, bad = (
            {(round(r[x], 6), round(r["scores"][y], 6)) for r in rows if r["overfitting"] is which}
            for which in (False, True)
        )
        assert by_face(axes) == {"filled": fine, "open": bad}


def test_kinds_have_their_colours_and_models_their_marks(saved):
    score_against_loss(ROWS, "t", ["top1"])
    (figure,) = saved
    for scatter in figure.axes[0].collections:
        if len(scatter.get_offsets()):
            wanted_colour = FINE if len(scatter.get_facecolors()) else OVERFITTING
            assert tuple(scatter.get_edgecolors()[0][:3]) == to_rgba(wanted_colour)[:3]
    named = legend(figure)
    assert list(named) == ["does not over-fit", "over-fits", "small", "large"]
    small, large = (named[n].get_paths()[0].vertices for n in ("small", "large"))
    assert small.shape != large.shape  # a circle and a square
    assert not len(named["over-fits"].get_facecolors())


def test_validation_stands_against_training_loss(saved):
    train_against_val(ROWS, "t")
    (axes,) = saved[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training loss", "validation loss")
    places = [lambda r: r["train_loss"], lambda r: r["val_loss"]]
    assert by_face(axes) == {"filled": wanted(FALLING, *places), "open": wanted(RISING, *places)}


def test_a_run_without_a_training_loss_is_not_drawn_there(saved):
    train_against_val([ROWS[0] | {"train_loss": None}, *ROWS[1:]], "t")
    assert sum(map(len, by_face(saved[0].axes[0]).values())) == len(ROWS) - 1


# ----- predictions --------------------------------------------------------------------------------------


def test_predictions_stand_against_what_came_with_their_intervals(saved):
    told = {"model": "m", "data": "x", "predicted": 0.41, "low": 0.40, "high": 0.43, "actual": 0.42}
    bare = {"model": "n", "data": "y", "predicted": 0.5, "low": None, "high": None, "actual": 0.47}
    predicted_against_actual([told, bare], "t")
    left, right = saved[0].axes
    assert left.get_xlabel() == "validation loss at the longest length"
    assert left.get_ylabel() == "predicted from shorter trainings"
    assert points(left.lines[0]) == [(0.41, 0.41), (0.5, 0.5)]  # where both are the same
    dots = {points(line)[0] for line in left.lines if len(line.get_xdata()) == 1}
    assert {(0.42, 0.41), (0.47, 0.5)} <= dots
    assert right.get_xlabel() == "predicted - actual, 90 % interval"
    assert [label.get_text() for label in right.get_yticklabels()] == ["m, x", "n, y"]
    assert right.get_ylim()[0] > right.get_ylim()[1]  # the first on top
    (bar,) = [c.get_segments()[0] for c in right.collections]  # of the one that has an interval
    assert bar.tolist() == [[pytest.approx(-0.02), 0], [pytest.approx(0.01), 0]]
    assert any(line.get_xdata()[0] == pytest.approx(-0.01) for line in right.lines)


# ----- over the published runs --------------------------------------------------------------------------


def test_a_study_lies_over_the_published_runs(saved):
    published = [r | {"iterations": 10 * r["iterations"], "val_loss": 0.3} for r in FALLING[:3]]
    over_published(ROWS, published, "t", "top1")
    height, changes, score = saved[0].axes
    assert [axes.get_xscale() for axes in (height, changes, score)] == ["log", "log", "linear"]
    assert (height.get_xlabel(), height.get_ylabel()) == ("iterations", "validation loss")
    assert (changes.get_xlabel(), score.get_xlabel()) == (
        "length / shortest length", "validation loss",
    )  # fmt: skip
    grey, *own = drawn(height)
    assert points(grey) == [(10 * length, 0.3) for length in LENGTHS]
    assert len(own) == len(MODELS) * len(DATA)
    colours = data_colours(ROWS)
    assert to_hex(grey.get_color()) not in {to_hex(line.get_color()) for line in own}
    assert {to_hex(line.get_color()) for line in own} == set(colours.values())
    for line in drawn(changes):
        assert points(line)[0] == (1.0, 1.0)
    assert [x for x, _ in points(drawn(changes)[1])] == [1.0, 2.0, 4.0]
    assert len(drawn(score)) == 1 + len(own)
    assert list(legend(saved[0])) == ["published: SwinV2 on ImageNet", *colours, "small", "large"]
