import numpy as np
import pytest
import torch

from mimray.mim.targets import TARGETS, build_target

pytestmark = pytest.mark.unit


def windowed(images, window):
    """Pixel by pixel in float64: what of the window lies inside the picture, unbiased variance."""
    out, reach = np.empty_like(images, dtype=np.float64), window // 2
    for (b, c, y, x), value in np.ndenumerate(images.astype(np.float64)):
        part = images[b, c, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        part = part.astype(np.float64)
        out[b, c, y, x] = (value - part.mean()) / np.sqrt(part.var(ddof=1) + 1e-6)
    return out


@pytest.mark.parametrize("window", [3, 5, 47])
@pytest.mark.parametrize("shape", [(2, 3, 9, 9), (1, 2, 6, 14)])
@pytest.mark.parametrize("contrast", [1.0, 1e-3])  # the second is where 1e-6 counts
def test_windowed_is_the_brute_force_s(window, shape, contrast):
    images = np.random.default_rng(0).normal(0, contrast, shape).astype(np.float32)
    got = build_target("windowed", window)(torch.tensor(images)).numpy()
    np.testing.assert_allclose(got, windowed(images, window), atol=2e-4)


@pytest.mark.parametrize("kind", TARGETS)
def test_to_images_inverts_the_target(kind):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = build_target(kind, 7)
    torch.testing.assert_close(target.to_images(target(images), images), images, atol=1e-5, rtol=0)


def test_windowed_is_finite_on_a_flat_picture():
    out = build_target("windowed", 5)(torch.full((1, 3, 16, 16), 2.0))
    assert out.isfinite().all() and out.abs().max() < 0.01


def test_pixels_is_the_input():
    images = torch.randn(1, 3, 4, 4)
    assert build_target("pixels", 47)(images) is images


@pytest.mark.parametrize("window", [0, 1, 2, 46])
def test_a_window_without_a_centre_is_refused(window):
    with pytest.raises(ValueError, match=f"target.window={window}: an odd number"):
        build_target("windowed", window)


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown target 'pixel'; known: pixels, windowed"):
        build_target("pixel", 47)


def test_windowed_is_the_official_norm_targets(shared):
    arrays = np.load(shared / "goldens/norm_target.npz", allow_pickle=False)
    cases = [k for k in arrays if k.startswith("out/") and "/flat/" not in k]
    assert cases
    for case in cases:
        _, tag, window = case.split("/")
        got = build_target("windowed", int(window[1:]))(torch.tensor(arrays[f"in/{tag}"]))
        assert np.abs(got.numpy() - arrays[case]).max() < 1e-3, case
