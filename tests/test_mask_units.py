"""Where `mask.unit` does not fit, the units that are offered do."""

import re

import pytest

from mimray.errors import UserError
from mimray.mim.encoders import ENCODERS
from mimray.recipe import load_recipe
from mimray.train.tasks.check_pretraining import check_model

pytestmark = pytest.mark.unit


def refused(*overrides):
    with pytest.raises(UserError) as caught:
        check_model(load_recipe("demo", overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def offered(line):
    """The numbers of `...; take 8 or 16`."""
    return [
        int(unit) for unit in re.fullmatch(r".*; take (\d+(?: or \d+)?)", line)[1].split(" or ")
    ]


@pytest.mark.parametrize(
    ("encoder", "size", "units"),
    [
        ("swin_nano", 96, [1, 5, 7, 36, 90, 1000]),
        ("vit_nano", 96, [5, 9, 20, 36, 95]),
        ("vit_base", 224, [6, 15, 30, 56, 64, 200]),
        ("vit_standard_huge", 224, [6, 15, 33, 100]),
        ("resnet_nano", 160, [3, 30, 64]),
    ],
)
def test_a_unit_that_is_offered_is_accepted(encoder, size, units):
    settings = [f"model.encoder={encoder}", f"model.image_size={size}"]
    if ENCODERS[encoder].window is None:
        settings.append("model.window=null")
    for unit in units:
        found = offered(refused(*settings, f"mask.unit={unit}"))
        assert found
        for other in found:
            check_model(load_recipe("demo", [*settings, f"mask.unit={other}"]))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_offers_know_every_encoder_s_patch(encoder):
    """The smallest unit that is offered is the patch: 672 is a multiple of 4, 8, 14 and 16."""
    line = refused(f"model.encoder={encoder}", "model.image_size=672", "mask.unit=5")
    assert offered(line)[0] == ENCODERS[encoder].patch


def test_a_unit_that_hides_everything_is_not_offered():
    assert offered(refused("mask.unit=47")) == [32, 48]
    assert offered(refused("mask.unit=47", "mask.ratio=0.8")) == [24, 32]
    assert offered(refused("mask.unit=47", "mask.ratio=0.9999")) == [32, 48]  # the ratio comes next


def test_a_picture_that_no_unit_fits_is_what_to_change():
    line = refused("model.encoder=vit_base", "model.image_size=90", "mask.unit=16")
    assert line.endswith("no multiple of vit_base's patch 16 divides it; change model.image_size")
