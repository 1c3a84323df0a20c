"""The sheet of `mimray reconstruct`: under which title which picture stands."""

import numpy as np
import pytest

from mimray import load_recipe
from mimray.analysis.reconstruction import Reconstruction
from mimray.report.reconstruction import draw_rows
from mimray.verbs.reconstruct import drawing
from mimray.verbs.reconstruct.models import Opened
from mimray.verbs.reconstruct.pictures import Picture

pytestmark = pytest.mark.unit

TITLES = ["original", "masked", "prediction", "with visible", "visible mean", "nearest visible"]
SHADES = {title: 200 - 30 * number for number, title in enumerate(TITLES)}


def flat(title):
    """A picture of one colour, which no letter has."""
    return np.full((32, 32, 3), (255, 0, SHADES[title]), np.uint8)


def sheet(monkeypatch, fills):
    """Titles of columns, and the blue of each picture from left to right."""
    original, masked, prediction, together, mean, nearest = map(flat, TITLES)
    losses = {"visible_mean": (mean, 0.8), "nearest": (nearest, 0.6)}
    one = Reconstruction(original, masked, prediction, together, 0.5, 0.6, 7.2, losses)
    titles = []

    def keep(words, columns, rows):
        titles.extend(columns)
        return draw_rows(words, columns, rows)

    monkeypatch.setattr(drawing, "draw_rows", keep)
    recipe = load_recipe("demo")
    opened = Opened(None, recipe, recipe.mask, "runs/mim", "mim", 4)
    drawn = drawing.draw_sheet(opened, [Picture("a.jpg", 0, original)], [one], fills)
    pixels = np.asarray(drawn)
    ours = (pixels[..., 0] == 255) & (pixels[..., 1] == 0)
    line = np.flatnonzero(ours.any(axis=1))[0]
    return titles, list(dict.fromkeys(pixels[line, ours[line], 2].tolist()))


@pytest.mark.parametrize("fills", [False, True])
def test_each_picture_stands_under_its_own_title(monkeypatch, fills):
    titles, blues = sheet(monkeypatch, fills)
    assert titles == TITLES[: 6 if fills else 4]
    assert blues == [SHADES[title] for title in titles]
