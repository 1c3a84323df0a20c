import math

import numpy as np
import pytest
import torch

from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

pytestmark = pytest.mark.unit


def hog(size=16):
    return build_target(TargetSettings(kind="hog", loss="l2"), size)


def by_hand(image):
    """Pixel by pixel in float64, of one colour (H, W): (9, H / 8, W / 8)."""
    framed = np.pad(image.astype(np.float64), 1, mode="reflect")
    out = np.zeros((9, image.shape[0] // 8, image.shape[1] // 8))
    for y, x in np.ndindex(*image.shape):
        across = framed[y + 1, x + 2] - framed[y + 1, x]
        down = framed[y + 2, x + 1] - framed[y, x + 1]
        degrees = math.degrees(math.atan2(down, across)) % 180
        out[min(int(degrees // 20), 8), y // 8, x // 8] += math.hypot(across, down)
    return out / np.maximum(np.linalg.norm(out, axis=0), 1e-12)


def test_it_is_the_brute_force_s():
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 24)).astype(np.float32)
    got = hog()(torch.tensor(images)).numpy()
    assert got.shape == (2, 27, 2, 3)
    for picture, out in zip(images, got, strict=True):
        expected = np.concatenate([by_hand(colour) for colour in picture])
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [10, 30, 50, 70, 90, 110, 130, 150, 170])
def test_a_ramp_has_the_orientation_it_was_given_whatever_its_sign(degrees):
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    angle = math.radians(degrees)
    ramp = (math.cos(angle) * x + math.sin(angle) * y).expand(1, 3, 24, 24)
    expected = torch.zeros(9)
    expected[degrees // 20] = 1.0
    for sign in (1, -1):
        middle = hog(24)(sign * ramp)[0, :, 1, 1]  # away from the reflected border
        torch.testing.assert_close(middle.view(3, 9), expected.expand(3, 9))


def test_the_scale_and_the_level_of_a_colour_do_not_count():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 16, 16, generator=generator)
    scale, level = torch.rand(3, 1, 1, generator=generator) + 0.1, torch.randn(3, 1, 1)
    torch.testing.assert_close(hog()(images * scale + level), hog()(images), atol=1e-4, rtol=0)


def test_a_flat_cell_is_all_zero_and_others_have_norm_one():
    images = torch.zeros(1, 3, 16, 16)
    images[..., 10:, 10:] = 1.0
    norms = hog()(images).view(3, 9, 2, 2).norm(dim=1)
    assert torch.equal(norms[:, 0, 0], torch.zeros(3))
    torch.testing.assert_close(norms[:, 1, 1], torch.ones(3))


def test_cells_must_divide_the_picture():
    with pytest.raises(ValueError, match="cells of 8 px do not divide the 36 px picture"):
        hog(36)
