import numpy as np
import pytest
import torch

from mimray.mim.targets import build_target
from mimray.mim.targets.patches import from_patches, to_patches
from mimray.recipe import TargetSettings

pytestmark = pytest.mark.unit


def patches(patch=4, size=8):
    return build_target(TargetSettings(kind="patches", patch=patch), size)


@pytest.mark.parametrize("contrast", [3.0, 2e-3])  # the second is where 1e-6 counts
def test_each_patch_loses_its_own_mean_and_deviation_over_all_colours(contrast):
    images = np.random.default_rng(0).normal(0.2, contrast, (2, 3, 8, 12)).astype(np.float32)
    got = patches()(torch.tensor(images)).numpy()
    for row in range(0, 8, 4):
        for column in range(0, 12, 4):
            place = np.s_[:, :, row : row + 4, column : column + 4]
            for one, out in zip(images[place].astype(np.float64), got[place], strict=True):
                expected = (one - one.mean()) / np.sqrt(one.var(ddof=1) + 1e-6)
                np.testing.assert_allclose(out, expected, atol=5e-5)


def test_a_flat_patch_is_nothing_and_a_grey_edge_is_one_deviation():
    images = torch.full((1, 3, 8, 8), 0.7)
    images[..., 4:, 4:6] = -0.7
    out = patches()(images)
    assert out[..., :4, :].abs().max() < 1e-3 and out[..., :, :4].abs().max() < 1e-3
    edge = (47 / 48) ** 0.5  # 48 values, the unbiased variance
    torch.testing.assert_close(out[..., 4:, 6:], torch.full((1, 3, 4, 2), edge))


def test_a_prediction_is_shown_with_the_patch_s_own_statistics():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 8, 8, generator=generator) * 5 + 2
    shown = patches().to_images(torch.zeros(1, 3, 8, 8), images)
    torch.testing.assert_close(shown[..., :4, 4:], images[..., :4, 4:].mean().expand(1, 3, 4, 4))
    ones = patches().to_images(torch.ones(1, 3, 8, 8), images)
    torch.testing.assert_close((ones - shown)[0, 0, 0, 4], images[..., :4, 4:].std())


def test_patches_are_colour_then_row_then_column():
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    cut = to_patches(images, 2)
    assert cut.shape == (2, 2, 3, 12)
    assert torch.equal(cut[1, 1, 2], images[1, :, 2:4, 4:6].flatten())
    assert torch.equal(from_patches(cut, 2), images)


def test_a_patch_must_divide_the_picture():
    with pytest.raises(ValueError, match=r"target.patch=16 does not divide the 40 px picture"):
        patches(16, 40)
