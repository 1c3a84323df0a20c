"""What is drawn of a run's loss, and of accuracy over layers."""

import pytest

from mimray.report import accuracy, curves

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    for module in (accuracy, curves):
        monkeypatch.setattr(module, "finished", lambda axes: axes)


@pytest.mark.parametrize(
    ("more", "says"), [({}, "loss on hidden pixels"), ({"val/top1": 0.5}, "cross entropy")]
)
def test_the_loss_is_named_for_what_it_is(more, says):
    rows = [{"images": 10, "train/loss": 2.0}, {"images": 20, "val/loss": 1.0, **more}]
    axes = curves.loss_curve(rows, "run")
    assert axes.get_ylabel() == says
    assert len(axes.lines) == 2


def layers(*pairs):
    keys = ("layer", "top1", "mean_per_class", "chosen")
    return [
        dict(zip(keys, (f"block {n + 1}", *pair, n == 0), strict=True))
        for n, pair in enumerate(pairs)
    ]


def test_scores_that_are_the_same_are_one_line():
    assert len(accuracy.layer_accuracy(layers((0.2, 0.2), (0.3, 0.3)), "").lines) == 1
    assert len(accuracy.layer_accuracy(layers((0.2, 0.2), (0.3, 0.4)), "").lines) == 2


def test_an_axis_shows_ten_points_at_least():
    low, high = accuracy.layer_accuracy(layers((0.50, 0.50), (0.51, 0.51)), "").get_ylim()
    assert high - low == pytest.approx(10.0) and low < 50.0 < 51.0 < high
    low, high = accuracy.layer_accuracy(layers((0.01, 0.01), (0.02, 0.02)), "").get_ylim()
    assert low == 0.0 and high > 2.0
    low, high = accuracy.layer_accuracy(layers((0.1, 0.1), (0.6, 0.6)), "").get_ylim()
    assert low < 10.0 and 60.0 < high < 100.0
