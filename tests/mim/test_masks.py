import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.hashing import key
from mimray.mim.masks import STRATEGIES, draw, to_pixels
from mimray.mim.masks.random import hidden_count, random_cells

pytestmark = pytest.mark.unit

RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SEEDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6)


def cells_of(hidden, tokens_a_cell):
    return hidden[:, ::tokens_a_cell, ::tokens_a_cell]


@pytest.mark.parametrize(
    ("ratio", "count"), zip(RATIOS, [4, 8, 11, 15, 18, 22, 26, 29, 33], strict=True)
)
def test_counts_at_192_px_in_units_of_32_are_the_papers(ratio, count):
    hidden = draw("random", 192, 32, 4, ratio, torch.arange(7))
    assert hidden.shape == (7, 48, 48) and hidden.dtype == torch.bool
    assert (cells_of(hidden, 8).sum(dim=(1, 2)) == count).all()


@pytest.mark.parametrize(
    ("size", "unit", "count"),
    [(224, 32, 30), (192, 16, 87), (192, 8, 346), (192, 4, 1383), (192, 64, 6), (96, 16, 22)],
)
def test_counts_at_ratio_0_6_are_the_papers(size, unit, count):
    hidden = draw("random", size, unit, unit, 0.6, torch.arange(2))
    assert hidden.sum(dim=(1, 2)).tolist() == [count, count]


def test_counts_are_those_of_the_official_generator(shared):
    import json

    for case in json.loads((shared / "goldens/mask_counts.json").read_text())["content"]:
        sizes = case["input_size"], case["mask_patch_size"], case["model_patch_size"]
        hidden = draw("random", *sizes, case["mask_ratio"], torch.arange(1))
        assert list(hidden.shape[1:]) == case["mask_shape"]
        assert int(hidden.sum()) == case["masked_tokens"]


@given(st.integers(2, 20), st.integers(2, 20), st.floats(0.01, 0.99), SEEDS)
def test_exactly_ceil_of_the_share_is_hidden(rows, columns, ratio, seeds):
    hidden = random_cells(rows, columns, ratio, torch.tensor(seeds))
    assert hidden.shape == (len(seeds), rows, columns)
    expected = math.ceil(rows * columns * ratio)
    assert hidden_count(rows * columns, ratio) == expected
    assert (hidden.sum(dim=(1, 2)) == expected).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("unit", "patch"), [(32, 4), (16, 16), (32, 16), (48, 8)])
def test_a_cell_is_hidden_as_a_whole(strategy, unit, patch):
    hidden = draw(strategy, 96, unit, patch, 0.5, torch.arange(5))
    times = unit // patch
    cells = cells_of(hidden, times)
    assert torch.equal(hidden, cells.repeat_interleave(times, 1).repeat_interleave(times, 2))


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(seeds=SEEDS, ratio=st.floats(0.05, 0.95))
def test_a_sample_s_mask_does_not_depend_on_its_batch(strategy, seeds, ratio):
    together = draw(strategy, 64, 8, 4, ratio, torch.tensor(seeds))
    for mask, seed in zip(together, seeds, strict=True):
        assert torch.equal(mask, draw(strategy, 64, 8, 4, ratio, torch.tensor([seed]))[0])


def test_every_cell_is_hidden_as_often():
    draws, count = 20_000, 22
    hidden = random_cells(6, 6, 0.6, key(5, torch.arange(draws)))
    share = hidden.float().mean(dim=0)
    p = count / 36
    assert (share - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / draws)


def test_pairs_of_cells_are_independent_but_for_the_fixed_count():
    draws, k, t = 20_000, 8, 16
    hidden = random_cells(4, 4, 0.5, key(6, torch.arange(draws))).flatten(1).double()
    together = (hidden.T @ hidden / draws)[~torch.eye(t, dtype=torch.bool)]
    p = k * (k - 1) / (t * (t - 1))
    assert (together - p).abs().max() < 5 * math.sqrt(p * (1 - p) / draws)


def test_masks_differ_from_sample_to_sample():
    hidden = draw("random", 192, 32, 4, 0.6, torch.arange(50)).flatten(1)
    assert len(torch.unique(hidden, dim=0)) == 50


def test_rectangles_are_height_by_width():
    hidden = draw("random", (64, 128), 32, 8, 0.5, torch.arange(3))
    assert hidden.shape == (3, 8, 16)
    assert (hidden.sum(dim=(1, 2)) == 4 * 16).all()


@pytest.mark.parametrize(
    ("size", "unit", "patch"), [(100, 32, 4), ((64, 100), 32, 4), (96, 24, 16), (96, 8, 16)]
)
def test_sizes_that_do_not_divide_are_refused(size, unit, patch):
    with pytest.raises(ValueError, match=f"mask unit {unit} must divide"):
        draw("random", size, unit, patch, 0.5, torch.arange(1))


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown mask strategy 'radnom'; known: random"):
        draw("radnom", 96, 16, 4, 0.5, torch.arange(1))


def test_to_pixels_repeats_each_token():
    hidden = torch.tensor([[[True, False], [False, True]]])
    expected = np.kron(np.array([[1, 0], [0, 1]]), np.ones((3, 3))).astype(bool)
    assert np.array_equal(to_pixels(hidden, 3)[0].numpy(), expected)
