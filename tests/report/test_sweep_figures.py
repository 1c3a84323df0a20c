"""A sweep's figures: what is drawn of which rows."""

import pytest

from mimray.report import ridge, sweep
from mimray.report.sweep import heat_map, over_avgdist

pytestmark = pytest.mark.unit


def row(unit, ratio, objective, strategy="random", status="finished"):
    place = {"strategy": strategy, "unit": unit, "ratio": ratio}
    return {**place, "objective": objective, "status": status, "avgdist_px_at_192": unit * ratio}


ROWS = [
    *(
        row(8, 0.4, 0.1),
        row(8, 0.4, 0.5),
        row(8, 0.4, None, status="ended"),
    ),  # three learning rates
    *(row(8, 0.6, 0.6), row(16, 0.4, 0.7), row(16, 0.6, None, status="ended")),
]


def drawn(monkeypatch, rows, metric, best=None):
    """The colours' limits, and where the frame is."""
    found = {}

    def draw(axes, rows, size, values, limits, framed, digits):
        found.update(values=values, limits=limits, digits=digits)
        return real(axes, rows, size, values, limits, framed, digits)

    real, frame = sweep._draw, sweep._frame
    monkeypatch.setattr(sweep, "_draw", draw)
    monkeypatch.setattr(sweep, "_frame", lambda x, y: found.update(best=(x, y)) or frame(x, y))
    png = heat_map(rows, "title", metric, "label", {"objective": "label"}, best)
    assert png.startswith(b"\x89PNG")
    return found


def test_a_field_is_its_best_trial_and_the_best_recipe_is_framed(monkeypatch):
    found = drawn(monkeypatch, ROWS, "val/skill", best=ROWS[3])
    assert found["values"][0] == [0.5, 0.6] and found["values"][1][0] == 0.7
    assert found["limits"] == (0.5, 0.7) and found["digits"] == 3
    assert found["best"] == (1, 0)


def test_the_frame_is_in_the_panel_of_its_strategy(monkeypatch):
    rows = [row(u, r, 0.5, s) for s in ("random", "square") for u in (8, 16) for r in (0.4, 0.6)]
    frames = []
    monkeypatch.setattr(
        sweep, "_frame", lambda x, y, real=sweep._frame: frames.append((x, y)) or real(x, y)
    )
    heat_map(rows, "title", "val/skill", "label", {}, rows[-1])
    assert frames == [(1, 1)]


def test_accuracies_are_in_percent(monkeypatch):
    assert drawn(monkeypatch, ROWS, "finetune/top1")["limits"] == pytest.approx((50.0, 70.0))


@pytest.mark.parametrize(
    "rows",
    [
        [row(8, 0.4, 0.1), row(8, 0.6, 0.2)],  # one unit
        [row(unit, ratio, None) for unit in (8, 16) for ratio in (0.4, 0.6)],
    ],
)
def test_what_is_no_grid_or_not_known_is_not_drawn(rows):
    assert heat_map(rows, "title", "val/skill", "label", {}, None) is None


def test_worth_over_avgdist():
    notes = {"objective": "skill"}
    assert over_avgdist(ROWS, "title", "val/skill", (10.0, 20.0), notes).startswith(b"\x89PNG")
    assert over_avgdist(ROWS[:2], "title", "val/skill", (10.0, 20.0), notes) is None  # one place


@pytest.mark.parametrize(
    ("metric", "axis", "height"),
    [
        ("val/reference_skill", "skill (1 - loss / nearest-pixel fill)", 0.7),
        ("finetune/top1", "fine-tuned top-1, %", 70.0),
        ("knn/top1", "kNN top-1, %", 70.0),
    ],
)
def test_every_objective_has_an_axis_over_avgdist(monkeypatch, metric, axis, height):
    found = {}
    monkeypatch.setattr(ridge, "png", lambda figure, notes, panels: found.update(panel=panels[0]))
    over_avgdist([*ROWS[4:], row(8, 0.4, 0.5) | {"deviation": 0.1}], "t", metric, (10.0, 20.0), {})
    panel = found["panel"]
    assert panel.get_ylabel() == axis
    drawn = [y for bar in panel.containers for y in bar.lines[0].get_ydata()]
    assert sorted(drawn) == pytest.approx([height * 5 / 7, height])
    (bar,) = [
        c.lines[2][0].get_segments()[0]
        for c in panel.containers
        if c.get_label().startswith("unit 8")
    ]
    assert bar[1][1] - bar[0][1] == pytest.approx(2 * height / 7)
