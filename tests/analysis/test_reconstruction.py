"""What was predicted comes back as the picture that it was predicted of, for every kind of target."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mimray.analysis.reconstruction import how_drawn, reconstruct
from mimray.mim.build import assemble, build_model
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.masks import draw
from mimray.mim.normalisation import denormalise, normalise
from mimray.mim.targets import TARGETS, build_target
from mimray.mim.targets.classification import Classification
from mimray.recipe import TargetSettings, load_recipe
from tests.goldens.golden import Golden
from tests.mim.target_files import colours_file, settings_of

pytestmark = pytest.mark.unit

SIZE = 32


def photos(count=2):
    """Pictures with flat parts and textures, uint8 (B, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator)
    pictures[:, :, : SIZE // 2] = pictures[:, :, :1, :1] // 2 + pictures[:, :, : SIZE // 2] // 16
    return pictures.to(torch.uint8)


class Says(nn.Module):
    """A head that predicts what it was told."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, features):
        return self.prediction


def exact(target, images):
    """The prediction without error: the target itself, or certainty of its class."""
    wanted = target(images)
    if not isinstance(target, Classification):
        return wanted
    certain = nn.functional.one_hot(wanted, target.classes).movedim(-1, 1).flatten(1, 2)
    return certain * 1e4


def oracle(settings, images):
    """A model whose prediction is exact."""
    encoder = SwinEncoder(
        image_size=SIZE, window=2, drop_path=0.0, embed=8, depths=(1, 1), heads=(1, 2)
    )
    target = build_target(settings, SIZE)
    model = assemble(encoder, target, (SIZE // 8, SIZE // 8)).eval()
    model.head = Says(exact(target, images).float())
    return model


def masks(count=2, ratio=0.5):
    return draw("random", SIZE, 8, 4, ratio, torch.arange(count))


# ----- un-normalisation -----------------------------------------------------------------------------

REGRESSED = [
    TargetSettings(kind="pixels"),
    TargetSettings(kind="pixels", loss="l2"),
    TargetSettings(kind="windowed", window=47),
    TargetSettings(kind="windowed", window=5),
    TargetSettings(kind="patches", patch=8),
    TargetSettings(kind="patches", patch=16),
]


@pytest.mark.parametrize(
    "settings", REGRESSED, ids=lambda s: f"{s.kind}-{s.loss}-{s.window}-{s.patch}"
)
def test_the_exact_target_gives_back_the_picture(settings):
    pictures = photos()
    images = normalise(pictures)
    target = build_target(settings, SIZE)
    torch.testing.assert_close(target.to_images(target(images), images), images, rtol=0, atol=1e-4)
    shown = reconstruct(oracle(settings, images), images, masks())
    for one, picture in zip(shown, pictures, strict=True):
        for found in (one.original, one.prediction, one.together):
            np.testing.assert_array_equal(found, picture.permute(1, 2, 0).numpy())
        assert one.loss == pytest.approx(0, abs=1e-6) and one.skill == pytest.approx(1, abs=1e-4)


WRONG = {
    "nothing put back": lambda target, images: target(images),
    "another window": lambda target, images: other(target).to_images(target(images), images),
    "the whole picture's statistics": lambda target, images: (
        target(images) * images.std(dim=(2, 3), keepdim=True)
        + images.mean(dim=(2, 3), keepdim=True)
    ),
    "the biased variance": lambda target, images: shrunk(target, images),
}


def other(target):
    kind = "windowed" if hasattr(target, "window") else "patches"
    return build_target(TargetSettings(kind=kind, window=9, patch=4), SIZE)


def shrunk(target, images):
    """As with the variance over n and not n - 1 of the largest count that there is."""
    count = target.window**2 if hasattr(target, "window") else 3 * target.patch**2
    flat = target.to_images(torch.zeros_like(images), images)
    right = target.to_images(target(images), images)
    return flat + (right - flat) * math.sqrt((count - 1) / count)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("settings", [REGRESSED[3], REGRESSED[4]], ids=lambda s: s.kind)
def test_a_wrong_un_normalisation_is_seen(settings, wrong):
    images = normalise(photos())
    target = build_target(settings, SIZE)
    off = (WRONG[wrong](target, images) - images).abs().max()
    assert off > 10 * 1e-4  # ten times the tolerance above


def test_the_official_code_s_targets_give_back_its_pictures():
    golden = Golden("norm_target")
    for case in golden.info["cases"]:
        images = golden.tensor(f"in/{case['tag']}")
        for size in case["sizes"]:
            settings = TargetSettings(kind="windowed", window=size)
            target = build_target(settings, min(case["h"], case["w"]))
            found = target.to_images(golden.tensor(f"out/{case['tag']}/p{size}"), images)
            torch.testing.assert_close(found, images, rtol=0, atol=1e-4)


def test_a_lower_resolution_gives_back_the_means():
    images = normalise(photos())
    settings = TargetSettings(kind="pixels", resolution=SIZE // 4)
    (one, _) = reconstruct(oracle(settings, images), images, masks())
    means = nn.functional.avg_pool2d(images, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    np.testing.assert_array_equal(one.prediction, denormalise(means)[0].permute(1, 2, 0).numpy())
    assert one.loss == pytest.approx(0, abs=1e-6)


def test_bins_give_back_the_middle_of_each():
    pictures = photos()
    images = normalise(pictures)
    (one, _) = reconstruct(oracle(TargetSettings(kind="bins", bins=8), images), images, masks())
    middle = pictures[0].permute(1, 2, 0).numpy() // 32 * 32 + 15.5
    assert np.abs(one.prediction - middle).max() <= 0.5
    assert one.skill is None and one.fills == {}
    fine = TargetSettings(kind="bins", bins=256)
    (one, _) = reconstruct(oracle(fine, images), images, masks())
    np.testing.assert_array_equal(one.prediction, one.original)


def test_clusters_give_back_their_centres(tmp_path):
    colours = torch.tensor([[0.0, 10, 20], [250, 120, 3], [90, 91, 92]])
    picture = colours[torch.arange(SIZE * SIZE).view(SIZE, SIZE) % 3].permute(2, 0, 1)[None]
    settings = TargetSettings(kind="clusters", file=colours_file(tmp_path, colours))
    images = normalise(picture)
    (one,) = reconstruct(oracle(settings, images), images, masks(1))
    np.testing.assert_array_equal(one.prediction, picture[0].permute(1, 2, 0).byte().numpy())
    target = build_target(settings, SIZE)
    shown = target.to_images(exact(target, images), images)
    torch.testing.assert_close(shown, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["hog", "tokens"])
def test_what_is_no_picture_is_not_drawn(tmp_path, kind):
    images = normalise(photos())
    assert reconstruct(oracle(settings_of(kind, tmp_path), images), images, masks()) is None


def test_every_kind_of_target_is_tried_here(tmp_path):
    assert set(TARGETS) == {"pixels", "windowed", "patches", "bins", "clusters", "hog", "tokens"}
    put_back = {kind for kind in TARGETS if how_drawn(TargetSettings(kind=kind))}
    assert put_back == {"windowed", "patches", "bins", "clusters"}


# ----- what stands beside a picture -----------------------------------------------------------------


def test_masked_is_grey_where_hidden_and_together_is_predicted_there_alone():
    images, hidden = normalise(photos()), masks()
    model = oracle(TargetSettings(), images)
    model.head = Says(torch.full_like(images, 0.3))
    (one, _) = reconstruct(model, images, hidden)
    pixels = hidden[0].repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
    flat = denormalise(torch.full_like(images, 0.3))[0].permute(1, 2, 0).numpy()
    assert (one.masked[pixels] == 128).all()
    np.testing.assert_array_equal(one.masked[~pixels], one.original[~pixels])
    np.testing.assert_array_equal(one.prediction, flat)
    np.testing.assert_array_equal(one.together[pixels], flat[pixels])
    np.testing.assert_array_equal(one.together[~pixels], one.original[~pixels])


def test_losses_are_means_over_the_hidden_values_of_each_picture():
    images, hidden = normalise(photos()), masks()
    model = oracle(TargetSettings(), images)
    model.head = Says(images + 0.25 * torch.arange(1, 3).view(2, 1, 1, 1))
    found = reconstruct(model, images, hidden)
    assert [one.loss for one in found] == pytest.approx([0.25, 0.5], rel=1e-5)
    assert [one.hidden_ratio for one in found] == [0.5, 0.5]
    pixels = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)
    for place, one in enumerate(found):
        of_hidden, of_visible = images[place][:, pixels[place]], images[place][:, ~pixels[place]]
        by_hand = (of_hidden - of_visible.mean(dim=1, keepdim=True)).abs().mean().item()
        assert one.fills["visible_mean"][1] == pytest.approx(by_hand, rel=1e-5)
        assert one.skill == pytest.approx(1 - one.loss / one.fills["nearest"][1])


def test_fills_are_shown_where_hidden():
    images = normalise(torch.full((1, 3, SIZE, SIZE), 77, dtype=torch.uint8))
    (one,) = reconstruct(oracle(TargetSettings(), images), images, masks(1))
    for shown, loss in one.fills.values():
        np.testing.assert_array_equal(shown, one.original)
        assert loss == pytest.approx(0, abs=1e-6)


def test_a_prediction_that_is_not_finite_is_no_picture():
    recipe = load_recipe("demo", ["model.encoder=vit_nano", "model.image_size=32", "mask.unit=16"])
    model = build_model(recipe).eval()
    with torch.no_grad():
        next(model.head.parameters()).fill_(math.nan)
    hidden = torch.ones(2, SIZE // model.patch, SIZE // model.patch, dtype=torch.bool)
    with pytest.raises(ValueError, match="what it predicts is not finite"):
        reconstruct(model, normalise(photos()), hidden)
