"""What figures of analyses show, read from the figure itself before it becomes a PNG."""

import importlib
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mimray.report.attention import attention_figures
from mimray.report.cka import cka_figure
from mimray.report.ridge import ridge_figure

pytestmark = pytest.mark.unit

PAPERS_RIDGE = (10.0, 20.0)


@pytest.fixture
def kept(monkeypatch):
    """`kept(module)` -> a list that is filled with the figures and notes that its functions draw."""

    def keep(module):
        found = []

        def png(figure, notes, spines=()):
            found.append((figure, notes))
            return b""

        monkeypatch.setattr(importlib.import_module(f"mimray.report.{module}"), "png", png)
        return found

    return keep


# ----- CKA ----------------------------------------------------------------------------------------------


def cka_rows(values, model="a", other="b"):
    return [
        {
            "model": model,
            "other_model": other,
            "layer": f"block {i}",
            "index": i,
            "other": f"block {j}",
            "other_index": j,
            "cka": v,
        }
        for i, line in enumerate(values, start=1)
        for j, v in enumerate(line, start=1)
    ]


def test_cka_s_map_is_the_matrix_layers_of_the_first_upwards(kept):
    found = kept("cka")
    values = [[0.9, 0.2, 0.5], [0.7, 0.4, -0.05]]
    cka_figure({"a": "x", "b": "y"}, cka_rows(values), {"CKA": "linear, unbiased"})
    ((figure, notes),) = found
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert axes.images[0].origin == "lower" and axes.images[0].get_clim() == (-0.1, 1.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2"]
    shown = {
        text.get_position(): text.get_text() for text in axes.texts if len(text.get_text()) < 5
    }
    assert shown[0, 1] == ".70" and shown[2, 0] == ".50" and shown[2, 1] == "-.05"
    assert notes == {"CKA": "linear, unbiased"}


def test_a_layer_without_cka_is_left_white_and_out_of_the_range(kept):
    found = kept("cka")
    nan = math.nan
    values = [[nan, nan, nan], [nan, 1.0, 0.4], [nan, 0.4, 1.0]]
    cka_figure({"a": "x"}, cka_rows(values, "a", "a"), {})
    texts = [text.get_text() for text in found[0][0].axes[0].texts]
    assert "x; 0.40 to 0.40" in texts and "nan" not in texts
    cka_figure({"a": "x"}, cka_rows([[nan, nan], [nan, nan]], "a", "a"), {})


# ----- attention ----------------------------------------------------------------------------------------


def heads(distances):
    """Rows of one model; each layer's heads have these distances."""
    return [
        {
            "model": "a", "layer": f"block {index}", "index": index, "stage": 1, "head": head,
            "distance_px": distance, "entropy_nats": 1.0, "uniform_nats": 2.0, "kl_mean": 0.5,
        }
        for index, layer in enumerate(distances, start=1)
        for head, distance in enumerate(layer, start=1)
    ]  # fmt: skip


def pairs(rows):
    return [
        row | {"other_head": 3 - row["head"], "kl_nats": 0.25 * row["head"]}
        for row in rows
        if row["head"] < 3
    ]


def line_of(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def test_layers_means_are_drawn_and_stand_beside_their_dots(kept):
    found = kept("attention")
    rows = heads([[10.0, 30.0], [40.0, 41.0, 60.0]])
    notes = {"distance": "Euclidean", "entropy": "of keys", "class token": "dropped"}
    attention_figures({"a": "MIM, vit_nano"}, rows, pairs(rows), notes)
    (figure, told), (entropy, of_entropy), (divergence, _) = found
    axes = figure.axes[0]
    line = line_of(axes, "mean of the layer")
    assert line.get_xdata().tolist() == [1, 2] and line.get_ydata().tolist() == [20.0, 47.0]
    assert sorted(axes.collections[0].get_offsets()[:, 1]) == [10, 30, 40, 41, 60]
    texts = [text.get_text() for text in axes.texts]
    assert {"20.0", "47.0", "MIM, vit_nano; mean of heads 36.2 px"} <= set(texts)
    assert told == {"distance": "Euclidean", "class token": "dropped"}
    assert of_entropy == {"entropy": "of keys", "class token": "dropped"}
    assert line_of(entropy.axes[0], "equal shares").get_ydata().tolist() == [2.0, 2.0]
    assert line_of(divergence.axes[0], "mean of the layer").get_ydata().tolist() == [0.375, 0.375]
    assert "mean of heads 0.500 nats" in divergence.axes[0].texts[0].get_text()


# ----- ridge --------------------------------------------------------------------------------------------


def ridge_row(unit, distance, **more):
    row = {"unit": unit, "ratio": 0.6, "strategy": "random", "avgdist_px_at_192": distance}
    return row | {"top1": None, "skill": None, "attention_distance_px_at_192": None} | more


def test_the_ridge_is_a_band_from_10_to_20_px(kept):
    found = kept("ridge")
    rows = [ridge_row(16, 5.0, top1=0.4), ridge_row(32, 15.0, top1=0.5)]
    rows[1]["attention_distance_px_at_192"] = 61.0
    ridge_figure(rows, "sweep", "top1", PAPERS_RIDGE, {"AvgDist": "at 192 px"})
    ((figure, notes),) = found
    score, looks = figure.axes
    for axes in (score, looks):
        (band,) = axes.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == PAPERS_RIDGE
    dots = {tuple(point) for line in score.lines for point in zip(*line.get_data(), strict=True)}
    assert {(5.0, 40.0), (15.0, 50.0)} <= dots
    assert (15.0, 61.0) in {p for line in looks.lines for p in zip(*line.get_data(), strict=True)}
    colours = {to_hex(line.get_color()) for line in score.lines if line.get_linestyle() == "-"}
    assert len(colours) == 2 and notes == {"AvgDist": "at 192 px"}
