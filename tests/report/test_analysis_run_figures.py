"""Where figures that compare runs put which number, read from the figure as it is saved."""

import numpy as np
import pytest

from mimray.evaluate.loss_curves import Curves
from mimray.report.layer_drop import layer_drop_curve
from mimray.report.losses import loss_panels, picture_sheet
from tests.report.test_analysis_panels import NOTES, stands_under

pytestmark = pytest.mark.unit

DROPS = [
    {"checkpoint": "mim", "kind": "MIM", "metric": "top1", "drop": drop, "remain": str(8 - drop)}
    | {"mean": mean, "spread": 0.02, "scores": [mean - 0.01, mean + 0.01]}
    for drop, mean in ((0, 0.5), (2, 0.4))
]  # fmt: skip


def test_the_layer_drop_curve_is_in_percent(saved):
    layer_drop_curve(DROPS, "title", NOTES)
    (axes,) = saved[0].axes
    assert axes.get_ylabel() == "top-1, %"
    (line, _, (bars,)), own = axes.containers[0].lines, axes.lines[-1]
    assert line.get_xydata() == pytest.approx(np.array([[0.0, 50.0], [2.0, 40.0]]))
    assert [bar[:, 1].tolist() for bar in bars.get_segments()] == [
        pytest.approx([48, 52]),
        pytest.approx([38, 42]),
    ]
    (dots,) = (found for found in axes.collections if found is not bars)
    assert dots.get_offsets()[:, 1].tolist() == pytest.approx([49.0, 51.0, 39.0, 41.0])
    assert own.get_ydata() == pytest.approx([50.0, 50.0]) and own.get_linestyle() == ":"


def test_the_band_of_a_rise_is_as_high_as_noise_may_be(saved):
    val = [(100 * n, loss) for n, loss in enumerate((0.9, 0.6, 0.5, 0.7, 0.8), start=1)]
    trend = [loss for _, loss in val]
    train = [(100 * n, 1.0 - 0.1 * n) for n in range(1, 6)]
    loss_panels({"run": Curves(train, val, trend, [], 2, 0.02, "over-fits")}, NOTES)
    (axes,) = saved[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert [tuple(point) for point in lines["validation"].get_xydata()] == val
    assert [tuple(point) for point in lines["training"].get_xydata()] == train
    assert lines["its running median"].get_ydata().tolist() == trend
    assert lines["over-fits: +0.3000"].get_ydata().tolist() == trend[2:]
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((0.5, 4 * 0.02))


def test_pictures_stand_under_their_own_losses(saved):
    pictures = [np.full((4, 4, 3), shade, np.uint8) for shade in (10, 20, 30)]
    losses = [
        {"row": 7, "loss": 0.9, "skill": -0.25},
        {"row": 3, "loss": 0.8, "skill": None},
        {"row": 5, "loss": 0.1, "skill": 0.5},
    ]
    one, two, three = zip(pictures, losses, strict=True)
    picture_sheet({"hardest": [one, two], "easiest": [three]}, "title", NOTES)
    drawn = {
        axes.images[0].get_array()[0, 0, 0]: axes.get_title()
        for axes in saved[0].axes
        if axes.images
    }
    assert drawn == {
        10: "row 7: 0.900\nskill -0.25",
        20: "row 3: 0.800",
        30: "row 5: 0.100\nskill +0.50",
    }


DRAWN = {
    "layer drop": lambda: layer_drop_curve(DROPS, "title", NOTES),
    "losses": lambda: loss_panels(
        {"run": Curves([(1, 0.5)], [], [], [], 0, 0.0, "unknown")}, NOTES
    ),
    "pictures": lambda: picture_sheet(
        {"hardest": [(np.zeros((4, 4, 3), np.uint8), {"row": 1, "loss": 0.5, "skill": None})]},
        "title",
        NOTES,
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_conventions_stand_under_every_figure(saved, name):
    DRAWN[name]()
    (figure,) = saved
    assert stands_under(figure)
