import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mimray.mim.masks import average_distance, draw
from mimray.mim.masks.distance import nearest_visible

pytestmark = pytest.mark.unit

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)).filter(
    lambda hidden: not hidden.all()
)


def brute_force(hidden):
    """Squared distance to the nearest visible pixel, by comparing every pair."""
    visible = np.argwhere(~hidden)
    places = np.argwhere(np.ones_like(hidden))
    squared = ((places[:, None] - visible[None]) ** 2).sum(-1).min(1)
    return squared.reshape(hidden.shape)


@given(MASKS)
def test_squared_distances_are_brute_force_s(hidden):
    squared, row, column = (t[0].numpy() for t in nearest_visible(torch.tensor(hidden)[None]))
    assert np.array_equal(squared, brute_force(hidden))
    assert not hidden[row, column].any()
    y, x = np.indices(hidden.shape)
    assert np.array_equal((row - y) ** 2 + (column - x) ** 2, squared)


def test_of_equally_near_pixels_the_leftmost_then_the_upper_is_taken():
    hidden = torch.tensor([[[1, 0, 1], [0, 1, 0], [1, 0, 1]]], dtype=torch.bool)
    _, row, column = nearest_visible(hidden)
    assert (row[0, 1, 1], column[0, 1, 1]) == (1, 0)
    assert (row[0, 0, 2], column[0, 0, 2]) == (0, 1)
    upright = torch.tensor([[[0], [1], [0]]], dtype=torch.bool)
    assert nearest_visible(upright)[1][0, 1, 0] == 0


@pytest.mark.parametrize("shape", [(40, 40), (24, 64), (64, 24), (1, 50), (50, 1)])
@pytest.mark.parametrize("ratio", [0.1, 0.6, 0.97])
def test_average_distance_is_scipy_s(shape, ratio):
    ndimage = pytest.importorskip("scipy.ndimage")
    hidden = np.random.default_rng(1).random((4, *shape)) < ratio
    hidden[:, 0, 0], hidden[:, -1, -1] = False, True
    expected = [ndimage.distance_transform_edt(h)[h].mean() for h in hidden]
    np.testing.assert_allclose(average_distance(torch.tensor(hidden), 1), expected, rtol=1e-12)


def test_squares_of_32_px_cells_at_192_px():
    hidden = torch.zeros(4, 6, 6, dtype=torch.bool)
    for mask, cells in zip(hidden, (2, 3, 4, 5), strict=True):
        start = (6 - cells) // 2
        mask[start : start + cells, start : start + cells] = True
    expected = [11.17, 16.50, 21.84, 53.83]
    assert average_distance(hidden, 32).tolist() == pytest.approx(expected, abs=0.005)


def test_random_masks_have_the_distance_of_the_facts():
    hidden = draw("random", 96, 16, 16, 0.6, torch.arange(100))  # as 32 px of 192, halved
    assert average_distance(hidden, 16).mean().item() == pytest.approx(15.42 / 2, rel=0.06)


@settings(max_examples=20)
@given(MASKS, st.integers(1, 4))
def test_the_grid_s_patch_only_scales_the_mask(hidden, patch):
    grid = torch.tensor(hidden)[None]
    pixels = grid.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    a, b = average_distance(grid, patch), average_distance(pixels, 1)
    assert a.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_all_hidden_is_infinite_and_nothing_hidden_is_nan():
    both = torch.stack([torch.ones(3, 4), torch.zeros(3, 4)]).bool()
    infinite, none = average_distance(both, 2)
    assert infinite == torch.inf and none.isnan()
