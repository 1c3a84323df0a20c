import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.order import SPARES, Order
from mimray.data.plan import PADDING, Plan, validation_plan
from mimray.data.rowset import RowSet

pytestmark = pytest.mark.unit


@st.composite
def plans(draw):
    rows = draw(st.integers(1, 200))
    groups = np.minimum(16, rows - np.arange(0, rows, 16))
    order = Order(groups, RowSet.everything(rows), draw(st.integers(0, 99)), 32)
    start = draw(st.integers(0, 30))
    return Plan(
        order,
        batch=draw(st.integers(1, rows)),
        micro=draw(st.integers(1, 20)),
        workers=draw(st.integers(1, 5)),
        start=start,
        stop=start + draw(st.integers(1, 12)),
        block_rows=draw(st.integers(1, 40)),
    )


def with_(plan, **changes):
    return Plan(**{f: getattr(plan, f) for f in plan.__dataclass_fields__} | changes)


@given(plans())
def test_the_ranks_together_get_the_batch_each_row_once(plan):
    for position in range(plan.start, plan.stop):
        parts = [plan.micro_batches(position, rank) for rank in range(plan.workers)]
        assert all(p.shape == (plan.rounds, plan.micro) for p in parts)
        dealt = np.concatenate(parts).ravel()
        real = dealt[dealt != PADDING]
        assert sorted(real.tolist()) == sorted(plan.rows(position).tolist())
        assert len(real) == plan.batch


@given(plans())
def test_the_batch_is_the_same_for_every_split(plan):
    other = with_(plan, workers=plan.workers % 5 + 1, micro=plan.micro + 3, block_rows=1, start=0)
    for position in range(plan.start, plan.stop):
        assert np.array_equal(plan.rows(position), other.rows(position))


@given(plans())
def test_positions_go_through_epochs_in_slices(plan):
    per_epoch = len(plan.order) // plan.batch
    assert plan.steps_per_epoch == per_epoch
    for position in range(plan.start, plan.stop):
        epoch, place = divmod(position, per_epoch)
        assert plan.epoch(position) == epoch
        expected = plan.order.slice(epoch, place * plan.batch, (place + 1) * plan.batch)
        assert np.array_equal(plan.rows(position), expected)


@given(plans())
def test_blocks_of_a_rank_laid_end_to_end_are_its_micro_batches(plan):
    for rank in range(plan.workers):
        blocks = [plan.block_of_all(number)[rank] for number in range(plan.blocks)]
        assert {len(block.rows) for block in blocks} == {plan.block_rounds * plan.micro}
        rows, epochs, spares = (np.concatenate(column) for column in zip(*blocks, strict=True))
        positions = range(plan.start, plan.stop)
        expected = np.concatenate([plan.micro_batches(p, rank) for p in positions]).ravel()
        assert np.array_equal(rows[: len(expected)], expected)
        assert (rows[len(expected) :] == PADDING).all()
        in_epoch = np.repeat([plan.epoch(p) for p in positions], plan.rounds * plan.micro)
        real = expected != PADDING
        assert np.array_equal(epochs[: len(expected)][real], in_epoch[real])
        assert spares.shape == (len(rows), SPARES)
        assert (spares[rows == PADDING] == PADDING).all()


@given(plans())
def test_no_block_is_empty_or_larger_than_asked_for(plan):
    last = plan.block_of_all(plan.blocks - 1)[0].rows
    rounds = (plan.stop - plan.start) * plan.rounds
    assert plan.blocks == math.ceil(rounds / plan.block_rounds)
    assert len(last) <= max(plan.block_rows, plan.micro)


@given(plans(), st.data())
def test_going_on_from_the_middle_gives_the_rest(plan, data):
    later = with_(plan, start=data.draw(st.integers(plan.start, plan.stop - 1)))
    for rank in range(plan.workers):
        rest = np.concatenate([later.block_of_all(n)[rank].rows for n in range(later.blocks)])
        positions = range(later.start, later.stop)
        expected = np.concatenate([plan.micro_batches(p, rank) for p in positions]).ravel()
        assert np.array_equal(rest[: len(expected)], expected)


def test_a_rank_gets_neighbouring_rows_in_mixed_order_and_the_last_is_padded():
    order = Order(np.array([10]), RowSet.everything(10), 0, 10)
    plan = Plan(order, batch=7, micro=2, workers=3, start=0, stop=1, block_rows=2)
    rows = plan.rows(0).tolist()
    dealt = [plan.micro_batches(0, rank) for rank in range(3)]
    real = [d[d != PADDING].tolist() for d in dealt]
    assert [len(r) for r in real] == [2, 2, 3]
    assert [row for share in real for row in sorted(share)] == sorted(rows)
    assert real == [sorted(share, key=rows.index) for share in real]
    assert dealt[2].tolist() == [[real[2][0], real[2][1]], [real[2][2], PADDING]]


@given(plans())
def test_a_spare_goes_with_its_row_whatever_the_split(plan):
    """What takes a row's place depends on the row and its epoch alone."""
    known = {}
    for workers in (1, 2, 3):
        for block in with_(plan, workers=workers).block_of_all(0):
            for row, epoch, spares in zip(*block, strict=True):
                if row != PADDING:
                    expected = known.setdefault((row, epoch), spares.tolist())
                    assert spares.tolist() == expected


@given(st.integers(1, 100), st.integers(1, 16), st.integers(1, 5), st.integers(1, 40))
def test_validation_goes_once_over_its_rows(count, micro, workers, block_rows):
    rows = np.arange(1000, 1000 + count)
    plan = validation_plan(rows, micro, workers, block_rows)
    blocks = [plan.block_of_all(n) for n in range(plan.blocks)]
    shares = [np.concatenate([block[rank].rows for block in blocks]) for rank in range(workers)]
    seen = np.concatenate(shares)
    assert sorted(seen[seen != PADDING].tolist()) == rows.tolist()
    sizes = [(share != PADDING).sum() for share in shares]
    assert max(sizes) - min(sizes) <= micro


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 21), st.integers(0, 9))
def test_what_belongs_together_is_never_parted(workers, half, batch, position):
    order = Order(np.array([97]), RowSet.everything(97), 3, 8)
    plan = Plan(order, batch, 2 * half, workers, 0, 10, 8, together=2)
    rows = plan.rows(position).tolist()
    wanted = {tuple(rows[k : k + 2]) for k in range(0, len(rows), 2)}
    found = []
    for rank in range(workers):
        for micro in plan.micro_batches(position, rank).tolist():
            pairs = [tuple(r for r in micro[k : k + 2] if r >= 0) for k in range(0, len(micro), 2)]
            found += [pair for pair in pairs if pair]
    assert len(found) == len(wanted) and set(found) == wanted
