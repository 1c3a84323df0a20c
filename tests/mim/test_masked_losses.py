"""Masks that stay the same, and what fills lose under them."""

import math

import pytest
import torch

from mimray.hashing import Purpose, key
from mimray.mim.build import build_model
from mimray.mim.masked_losses import FILLS, fills, fixed_masks, skill
from mimray.mim.masks import draw
from mimray.recipe import Mask, load_recipe

pytestmark = pytest.mark.unit
SMALL = ["model.encoder=vit_nano", "model.image_size=32", "model.window=null", "mask.unit=16"]


def test_a_mask_depends_on_row_and_seed_alone():
    mask = Mask(unit=16, ratio=0.5)
    whole = fixed_masks(mask, 64, 8, 7, torch.arange(6))
    assert whole.shape == (6, 8, 8) and whole.dtype == torch.bool
    assert whole.float().mean() == 0.5
    again = fixed_masks(mask, 64, 8, 7, torch.tensor([4, 1]))
    torch.testing.assert_close(again, whole[[4, 1]])
    assert len({tuple(one.flatten().tolist()) for one in whole}) > 3
    assert not torch.equal(fixed_masks(mask, 64, 8, 8, torch.arange(6)), whole)
    seeds = key(
        Purpose.VALIDATION_MASK, 7, torch.arange(6)
    )  # with others, old losses would not compare
    assert torch.equal(draw("random", 64, 16, 8, 0.5, seeds), whole)


def test_fills_lose_what_they_are_off_where_the_picture_is_hidden():
    model = build_model(load_recipe("demo", SMALL)).eval()
    images = torch.zeros(2, 3, 32, 32)
    images[0, :, :, 16:] = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    hidden = torch.zeros(2, 4, 4, dtype=torch.bool)
    hidden[:, :2, 2:] = True  # a quarter: of the first picture half of its bright half
    found = {name: (filled, error) for name, filled, error in fills(model, images, hidden)}
    assert list(found) == list(FILLS) == ["visible_mean", "nearest"]
    values = model.values(hidden)
    assert values.tolist() == [3 * 256] * 2
    filled, error = found["visible_mean"]
    assert filled.shape == images.shape
    assert filled[0, 2].unique().item() == pytest.approx(1.0)  # 3 of a third of what is visible
    assert (error / values).tolist() == pytest.approx([(2 / 3) * 2, 0.0], abs=1e-6)
    by_hand = (found["nearest"][0] - images).abs()[:, :, :16, 16:].mean(dim=(1, 2, 3))
    assert (found["nearest"][1] / values).tolist() == pytest.approx(by_hand.tolist(), rel=1e-5)


def test_a_target_that_is_classified_has_none():
    model = build_model(load_recipe("demo", [*SMALL, "target.kind=bins"])).eval()
    hidden = torch.ones(1, 4, 4, dtype=torch.bool)
    assert list(fills(model, torch.zeros(1, 3, 32, 32), hidden)) == []


def test_skill():
    assert skill(0.5, 1.0) == 0.5 and skill(2.0, 1.0) == -1.0
    assert math.isnan(skill(1.0, math.nan))
    assert math.isnan(skill(0.5, 0.0)) and math.isnan(skill(0.5, 1e-13))  # of one colour
