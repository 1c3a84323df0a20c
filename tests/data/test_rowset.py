import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data import rowset
from mimray.data.rowset import RowSet
from mimray.hashing import key

pytestmark = pytest.mark.unit

SIZES = st.integers(1, 300)


@pytest.fixture(params=[8, 64, 1 << 22], ids=lambda c: f"pieces of {c}")
def piece(request, monkeypatch):
    """Rows are looked at in pieces; that must not show."""
    monkeypatch.setattr(rowset, "_CHUNK", request.param)


@given(SIZES, st.data())
def test_a_set_holds_what_it_was_given(piece, size, data):
    rows = data.draw(st.sets(st.integers(0, size - 1)))
    chosen = RowSet.of(np.array(sorted(rows, key=lambda r: -r), dtype=np.int64), size)
    assert chosen.rows().tolist() == sorted(rows) and len(chosen) == len(rows)
    assert np.flatnonzero(chosen.has(np.arange(size))).tolist() == sorted(rows)


@given(SIZES, st.data())
def test_counts_a_group(piece, size, data):
    chosen = RowSet.of(
        np.array(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=np.int64), size
    )
    inner = data.draw(st.lists(st.integers(0, size), max_size=6))
    starts = np.array([0, *sorted(inner), size])
    expected = [chosen.has(np.arange(a, b)).sum() for a, b in itertools.pairwise(starts)]
    assert chosen.counts(starts).tolist() == [int(e) for e in expected]


@given(SIZES)
def test_everything_is_every_row(size):
    assert RowSet.everything(size).rows().tolist() == list(range(size))
    assert len(RowSet.everything(size)) == size


@given(SIZES, st.integers(0, 400), st.integers(0, 2**62))
def test_the_smallest_hashes_are_taken(piece, size, count, seed):
    chosen = RowSet.smallest(size, count, 3, seed)
    by_hash = np.argsort(key(3, seed, np.arange(size)), kind="stable")
    assert chosen.rows().tolist() == sorted(by_hash[:count].tolist())


@given(SIZES, st.data())
def test_without(size, data):
    sets = st.sets(st.integers(0, size - 1))
    a, b = data.draw(sets), data.draw(sets)
    left = RowSet.of(np.array(sorted(a), dtype=np.int64), size).without(
        RowSet.of(np.array(sorted(b), dtype=np.int64), size)
    )
    assert left.rows().tolist() == sorted(a - b)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_that_does_not_exist_is_refused(row):
    with pytest.raises(ValueError, match="beyond"):
        RowSet.of(np.array([row]), 5)
