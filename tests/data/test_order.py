import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.order import SPARES, Order, held_out
from mimray.data.rowset import RowSet

pytestmark = pytest.mark.unit

SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def orders(draw):
    groups = np.array(draw(st.lists(st.integers(1, 30), min_size=1, max_size=12)), dtype=np.int64)
    rows = int(groups.sum())
    gone = draw(st.sets(st.integers(0, rows - 1), max_size=rows - 1))
    trained = np.array(sorted(set(range(rows)) - gone), dtype=np.int64)
    return Order(groups, RowSet.of(trained, rows), draw(SEEDS), draw(st.integers(1, 2 * rows)))


def whole(order, epoch=0):
    return order.slice(epoch, 0, len(order))


@given(orders(), st.integers(0, 10**6))
def test_every_epoch_is_a_permutation_of_the_rows_that_are_kept(order, epoch):
    kept = order.rows.rows()
    assert len(order) == len(kept)
    assert np.array_equal(np.sort(whole(order, epoch)), kept)


@given(orders(), st.data())
def test_a_slice_is_that_part_of_the_epoch(order, data):
    start = data.draw(st.integers(0, len(order) - 1))
    stop = data.draw(st.integers(start + 1, len(order)))
    part = order.slice(3, start, stop)
    assert part.dtype == np.int64
    assert np.array_equal(part, whole(order, 3)[start:stop])


@given(orders())
def test_a_window_touches_few_row_groups(order):
    """Rows of a window are those of consecutive groups of that epoch's permutation of groups."""
    group_of = np.repeat(np.arange(len(order.groups)), order.groups)
    rows = whole(order)
    seen: set[int] = set()
    for start in range(0, len(order), order.window):
        groups = set(group_of[rows[start : start + order.window]].tolist())
        assert len(groups & seen) <= 1  # the one that a window's border cuts
        seen |= groups


def build(seed=0, window=1000, rows=1000, group=64):
    groups = np.minimum(group, rows - np.arange(0, rows, group))
    return Order(groups, RowSet.everything(rows), seed, window)


def test_epochs_and_seeds_differ():
    order = build()
    arrangements = [whole(order, 0), whole(order, 1), whole(build(seed=1), 0), np.arange(1000)]
    for i, a in enumerate(arrangements):
        for b in arrangements[:i]:
            assert (a == b).mean() < 0.02


def test_small_windows_differ_between_epochs_too():
    order = build(window=10)
    assert (whole(order, 0) == whole(order, 1)).mean() < 0.02


def test_an_epoch_is_the_same_when_asked_again():
    assert np.array_equal(whole(build(), 5), whole(build(), 5))


def test_a_window_of_the_whole_set_is_uniform():
    """Over many epochs every row comes first equally often, wherever its row group lies."""
    order = build(rows=20, group=7, window=20)
    first = np.bincount([order.slice(e, 0, 1)[0] for e in range(4000)], minlength=20)
    assert ((first - 200) ** 2 / 200).sum() < 50  # chi-squared with 19 degrees: once in 10,000


def test_an_order_that_has_travelled_is_the_same():
    order = build()
    whole(order, 3)
    assert np.array_equal(whole(pickle.loads(pickle.dumps(order)), 3), whole(order, 3))
    assert len(pickle.dumps(order)) < 1000  # its caches stay behind


@given(orders(), st.data())
def test_spares_are_rows_of_the_same_window_whatever_the_slice(order, data):
    start = data.draw(st.integers(0, len(order) - 1))
    stop = data.draw(st.integers(start + 1, len(order)))
    spares = order.spares(5, start, stop)
    assert spares.shape == (stop - start, SPARES)
    for place in range(start, stop):
        first = place // order.window * order.window
        window = order.slice(5, first, min(first + order.window, len(order)))
        assert set(spares[place - start].tolist()) <= set(window.tolist())
        assert np.array_equal(order.spares(5, place, place + 1)[0], spares[place - start])


def test_spares_are_spread_over_the_window():
    chosen = np.bincount(build(rows=100, window=100).spares(0, 0, 100).ravel(), minlength=100)
    assert chosen.max() <= 16 and (chosen > 0).mean() > 0.9  # 4 each on average


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (2, 1), (100, 50), (128, 64), (129, 64), (3200, 64), (3250, 65), (10_000, 200), (250_000, 5000),
        (300_000, 5000), (0, 0), (1, 0),
    ],
)  # fmt: skip
def test_two_percent_are_held_out_but_64_to_5000_and_at_most_half(rows, count):
    assert len(held_out(rows, 0.02, 0)) == count


@given(st.integers(0, 3000), st.floats(0.001, 0.49), SEEDS)
def test_held_out_rows_are_distinct_ascending_rows(rows, fraction, seed):
    out = held_out(rows, fraction, seed).rows()
    assert (np.diff(out) > 0).all()
    assert len(out) <= rows // 2 and (not len(out) or (out[0] >= 0 and out[-1] < rows))


def test_held_out_rows_depend_on_the_seed_and_are_nested():
    small, large = held_out(10_000, 0.02, 0).rows(), held_out(10_000, 0.1, 0).rows()
    assert set(small.tolist()) <= set(large.tolist())
    assert len(set(small.tolist()) & set(held_out(10_000, 0.02, 1).rows().tolist())) < 20


def test_held_out_rows_never_appear():
    groups = build(rows=1000).groups
    gone = held_out(1000, 0.1, 0)
    order = Order(groups, RowSet.everything(1000).without(gone), 0, 128)
    for epoch in range(5):
        assert not gone.has(whole(order, epoch)).any()
        assert not gone.has(order.spares(epoch, 0, len(order))).any()
