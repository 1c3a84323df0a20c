import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data import stream
from mimray.data.order import Order
from mimray.data.plan import Plan
from mimray.data.rowset import RowSet

pytestmark = pytest.mark.unit


def build(blocks, workers, limit=4096):
    """A plan of so many blocks for each rank: one position a block."""
    order = Order(np.array([workers]), RowSet.everything(workers), 0, workers)
    return Plan(order, workers, 1, workers, 3, 3 + blocks, 1, segment_blocks=limit)


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 50))
def test_segments_cover_every_block_once_in_order(blocks, workers, limit):
    plan = build(blocks, workers, limit)
    assert plan.blocks == blocks
    parts = [list(stream.segment_blocks(plan, s)) for s in range(stream.segments(plan))]
    assert [number for part in parts for number in part] == list(range(blocks))
    assert all(len(part) * workers <= max(limit, workers) for part in parts)
    assert blocks == 0 or all(parts)


def test_a_plan_without_blocks_is_one_empty_segment():
    assert stream.segments(build(0, 2)) == 1
    assert list(stream.segment_blocks(build(0, 2), 0)) == []


def test_a_segment_holds_at_most_its_blocks():
    plan = build(37, 2, limit=64)
    assert [len(stream.segment_blocks(plan, k)) for k in range(stream.segments(plan))] == [2, 32, 3]
