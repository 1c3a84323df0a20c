import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mimray.hashing import key
from mimray.mim.masks import (
    STRATEGIES,
    average_distance,
    draw,
    hidden_cells,
    realised_ratio,
    to_pixels,
)
from mimray.mim.masks.block import _shapes
from mimray.mim.masks.ranking import lowest, random_order
from mimray.mim.masks.statistics import statistics

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


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=25)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.01, 0.99), SEEDS)
def test_every_sample_hides_the_count_known_beforehand(strategy, rows, columns, ratio, seeds):
    assume(math.ceil(rows * columns * ratio) < rows * columns)
    count = hidden_cells(strategy, rows, columns, ratio)
    hidden = draw(strategy, (8 * rows, 8 * columns), 8, 8, ratio, torch.tensor(seeds))
    assert hidden.shape == (len(seeds), rows, columns)
    assert (hidden.sum(dim=(1, 2)) == count).all()
    if strategy != "square":
        assert count == math.ceil(rows * columns * ratio)
    share = realised_ratio(strategy, (8 * rows, 8 * columns), 8, ratio)
    assert share == pytest.approx(hidden.float().mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("ratio", "side"), [(0.01, 1), (0.11, 2), (0.25, 3), (0.44, 4), (0.6, 5), (0.95, 5)]
)
def test_the_square_takes_the_nearest_side_but_never_everything(ratio, side):
    assert hidden_cells("square", 6, 6, ratio) == side**2
    hidden = draw("square", 192, 32, 32, ratio, torch.arange(2))[1]
    start = (6 - side) // 2
    assert hidden[start : start + side, start : start + side].all()
    assert hidden.sum() == side**2


def test_the_square_of_a_rectangle_is_square_and_central():
    hidden = draw("square", (64, 160), 16, 16, 0.4, torch.arange(1))[0]
    assert hidden.nonzero().tolist() == [[y, x] for y in range(4) for x in range(3, 7)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("unit", "patch"), [(32, 4), (16, 16), (32, 16), (48, 8)])
def test_a_cell_is_hidden_as_a_whole(strategy, unit, patch):
    hidden = draw(strategy, 96, unit, patch, 0.5, torch.arange(5))
    times = unit // patch
    cells = cells_of(hidden, times)
    assert torch.equal(hidden, cells.repeat_interleave(times, 1).repeat_interleave(times, 2))


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=10)
@given(seeds=SEEDS, ratio=st.floats(0.05, 0.95))
def test_a_sample_s_mask_does_not_depend_on_its_batch(strategy, seeds, ratio):
    together = draw(strategy, 64, 8, 4, ratio, torch.tensor(seeds))
    for mask, seed in zip(together, seeds, strict=True):
        assert torch.equal(mask, draw(strategy, 64, 8, 4, ratio, torch.tensor([seed]))[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_sample_s_mask_does_not_depend_on_where_a_large_batch_is_cut(strategy):
    seed = torch.arange(300)
    together = draw(strategy, 192, 4, 4, 0.6, seed)
    last = draw(strategy, 192, 4, 4, 0.6, seed[-3:])
    assert torch.equal(together[-3:], last)


@pytest.mark.parametrize(
    ("strategy", "digest"),
    [
        ("random", "c334f4fe0608fbca"),
        ("block", "76cbe09497a3e9d5"),
        ("inverse_block", "5c724389740114f4"),
        ("square", "c990a6c4d6e1e030"),
    ],
)
def test_masks_are_the_same_bits_for_ever(strategy, digest):
    """A run that goes on elsewhere, or later, sees the masks that it would have seen."""
    hidden = draw(strategy, (128, 192), 8, 8, 0.6, torch.tensor([0, 1, -5, 2**63 - 1]))
    assert hashlib.sha256(hidden.numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_drawing_never_waits_for_the_device(strategy):
    """A tensor without values cannot be looked at."""
    hidden = draw(strategy, 192, 16, 4, 0.6, torch.arange(5, device="meta"))
    assert hidden.shape == (5, 48, 48) and hidden.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("unit", [4, 32])
def test_a_gpu_draws_the_same_bits(strategy, unit):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    seed = key(9, torch.arange(512))
    assert torch.equal(
        draw(strategy, 192, unit, 4, 0.6, seed.cuda()).cpu(),
        draw(strategy, 192, unit, 4, 0.6, seed),
    )


def test_every_cell_is_hidden_as_often():
    draws, count = 20_000, 22
    hidden = draw("random", 6, 1, 1, 0.6, key(5, torch.arange(draws)))
    share = hidden.float().mean(dim=0)
    p = count / 36
    assert (share - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / draws)


def test_pairs_of_cells_are_independent_but_for_the_fixed_count():
    draws, k, t = 20_000, 8, 16
    hidden = draw("random", 4, 1, 1, 0.5, key(6, torch.arange(draws))).flatten(1).double()
    together = (hidden.T @ hidden / draws)[~torch.eye(t, dtype=torch.bool)]
    p = k * (k - 1) / (t * (t - 1))
    assert (together - p).abs().max() < 5 * math.sqrt(p * (1 - p) / draws)


@given(st.integers(2, 60), st.integers(1, 12), st.randoms(use_true_random=False))
def test_no_two_keys_are_alike_and_groups_come_in_turn(cells, groups, random):
    group = torch.tensor([[random.randrange(groups) for _ in range(cells)] for _ in range(3)])
    keys = random_order(cells, torch.arange(3), group)
    for of_sample, its_group in zip(keys, group, strict=True):
        assert len(of_sample.unique()) == cells
        assert (its_group[of_sample.argsort()].diff() >= 0).all()
    assert torch.equal(lowest(keys, cells // 2).sum(dim=1), torch.full((3,), cells // 2))


def test_equal_hashes_would_come_in_the_order_of_their_cells():
    keys = random_order(64, torch.arange(5))
    assert torch.equal(keys & 63, torch.arange(64).expand(5, -1))


@pytest.mark.parametrize("strategy", ["random", "block", "inverse_block"])
def test_masks_differ_from_sample_to_sample(strategy):
    hidden = draw(strategy, 192, 32, 4, 0.6, torch.arange(50)).flatten(1)
    assert len(torch.unique(hidden, dim=0)) == 50


@pytest.mark.parametrize("strategy", ["block", "inverse_block"])
def test_no_direction_is_preferred(strategy):
    draws = 4000
    hidden = draw(strategy, 12, 1, 1, 0.5, key(7, torch.arange(draws)))
    share = hidden.float().mean(dim=0)
    for other in (share.flip(0), share.flip(1), share.T):
        assert (share - other).abs().max() < 4.5 * math.sqrt(0.5 / draws)


@pytest.mark.parametrize(
    ("strategy", "unit", "times"),
    [
        ("block", 16, 2.5),
        ("block", 32, 1.6),
        ("inverse_block", 16, 2.0),
        ("inverse_block", 32, 1.4),
    ],
)
def test_blocks_hide_farther_from_what_is_visible(strategy, unit, times):
    assert statistics(strategy, 192, unit, 16, 0.6, 256).average_distance > (
        times * statistics("random", 192, unit, 16, 0.6, 256).average_distance
    )


@pytest.mark.parametrize(("strategy", "inverse"), [("block", False), ("inverse_block", True)])
@pytest.mark.parametrize("ratio", [0.4, 0.6, 0.8])
def test_blocks_are_few_connected_regions(strategy, inverse, ratio):
    ndimage = pytest.importorskip("scipy.ndimage")

    def regions(hidden):
        return np.mean([ndimage.label(h)[1] for h in (hidden ^ inverse).numpy()])

    blocks, cells = (draw(s, 224, 16, 16, ratio, torch.arange(200)) for s in (strategy, "random"))
    if inverse:
        assert regions(blocks) < 0.5 * regions(cells)
    else:
        assert regions(blocks) < 2.5


def test_blocks_are_beit_s():
    """16 of 196 cells to what is left, aspect 0.3 to 1/0.3, area uniform, no shape lying down more."""
    shapes, fitting = _shapes(14, 14, 118, torch.device("cpu"))
    height, width = shapes.unbind(dim=1)
    area, aspect = height * width, height / width
    assert area.min() == 16 and area.max() <= 118 and (area.diff() >= 0).all()
    assert aspect.min() >= 0.3 and aspect.max() <= 1 / 0.3 + 1e-6
    assert aspect.log().mean().abs() < 1e-6
    for remaining in (0, 15, 16, 40, 118):
        fits = area <= max(remaining, 16)
        assert fitting[remaining] == fits.sum()
    small = area[area <= 48]  # of these no shape is too long for the grid
    assert small.float().mean() == pytest.approx((16 + 48) / 2, rel=0.03)


def test_blocks_hide_as_far_as_beit_s_generator():
    """14 x 14 cells of 16 px, 75 hidden: its published rule gives 20.2 (74.5 hidden on average)."""
    hidden = draw("block", 224, 16, 16, 75 / 196, torch.arange(600))
    assert average_distance(hidden, 16).mean().item() == pytest.approx(20.2, rel=0.06)


def test_statistics_are_those_of_the_facts():
    found = statistics("random", 192, 32, 4, 0.6)
    assert found.hidden_ratio == 22 / 36
    assert found.average_distance == pytest.approx(15.42, rel=0.02)
    assert found == statistics("random", (192, 192), 32, 32, 0.6)


def test_rectangles_are_height_by_width():
    hidden = draw("random", (64, 128), 32, 8, 0.5, torch.arange(3))
    assert hidden.shape == (3, 8, 16)
    assert (hidden.sum(dim=(1, 2)) == 4 * 16).all()


@pytest.mark.parametrize(
    ("size", "unit", "patch", "mend"),
    [
        (100, 32, 4, "take 20 or 4"),
        ((64, 100), 32, 4, "take 4"),
        (96, 24, 16, "take 16 or 32"),
        (96, 8, 16, "take 16 or 32"),
        (96, 0, 16, "take 16 or 32"),
        (100, 32, 16, "no unit is both"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_those_that_do(size, unit, patch, mend):
    with pytest.raises(ValueError, match=f"mask unit {unit} must divide .*; {mend}"):
        draw("random", size, unit, patch, 0.5, torch.arange(1))


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'radnom' is not known; did you mean random\?"):
        draw("radnom", 96, 16, 4, 0.5, torch.arange(1))
    with pytest.raises(ValueError, match="known: random, block, inverse_block, square"):
        hidden_cells("tubes", 3, 3, 0.5)


@pytest.mark.parametrize("strategy", ["random", "block", "inverse_block"])
def test_a_ratio_that_hides_everything_is_refused_with_one_that_does_not(strategy):
    with pytest.raises(ValueError, match=r"ratio 0\.9 hides all 9 cells .* at most 0\.8888"):
        draw(strategy, 192, 64, 4, 0.9, torch.arange(1))
    assert hidden_cells(strategy, 3, 3, 0.8888) == 8


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 60, math.nan])
def test_a_ratio_beyond_0_and_1_is_refused(ratio):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        hidden_cells("square", 6, 6, ratio)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_unit_as_large_as_the_image_is_refused(strategy):
    with pytest.raises(ValueError, match="covers the whole image; take a smaller unit"):
        realised_ratio(strategy, 64, 64, 0.5)


def test_to_pixels_repeats_each_token():
    hidden = torch.tensor([[[True, False], [False, True]]])
    expected = np.kron(np.array([[1, 0], [0, 1]]), np.ones((3, 3))).astype(bool)
    assert np.array_equal(to_pixels(hidden, 3)[0].numpy(), expected)
