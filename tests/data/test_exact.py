"""The global batch at a position: the same samples, crops, flips and masks for every way of going on."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray import load_recipe
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.order import Order, held_out
from mimray.data.plan import PADDING, Block, Plan
from mimray.data.rowset import RowSet
from mimray.mim.step import micro_batch
from tests.data.conftest import encode, noise

pytestmark = pytest.mark.unit

SEED, BATCH, STEPS, ROWS = 7, 11, 13, 60
GROUPS = np.array([9, 1, 20, 13, 17])
TRAINED = RowSet.everything(ROWS).without(held_out(ROWS, 0.02, 0))  # 30 rows: two batches an epoch


class Pictures:
    """Small pictures of different shapes; some cannot be read."""

    def __init__(self):
        self.data = [
            encode(noise(20 + row % 7, 24 + row % 5, row)) if row % 9 else b"broken"
            for row in range(ROWS)
        ]

    def read(self, rows):
        return [self.data[row] for row in rows.tolist()]


SOURCE = Pictures()
FRAMING = Framing(16, True, SEED, (0.2, 1.0), (3 / 4, 4 / 3), 0.5)
RECIPE = load_recipe("demo", ["model.image_size=16", "mask.unit=4", f"run.seed={SEED}"])


def samples(block):
    """(row, epoch, whose pixels, digest of the pixels, digest of the mask) of a block's rows.

    Through the very functions of the data task and of the training step. The pixels stand for crop
    box and flip.
    """
    columns = load_block(SOURCE, block, FRAMING)
    out = []
    for k in np.flatnonzero(block.rows != PADDING):
        images = torch.from_numpy(columns["image"][k : k + 1]).permute(0, 3, 1, 2)
        rows, epoch = torch.from_numpy(block.rows[k : k + 1]), int(block.epochs[k])
        micro = micro_batch(RECIPE, 4, images, rows, torch.ones(1), epoch)
        digests = (
            hashlib.sha256(t.numpy().tobytes()).hexdigest()
            for t in (images.contiguous(), micro.supervision)
        )
        out.append((int(block.rows[k]), epoch, int(columns["seen"][k]), *digests))
    return out


def delivered(start, stop, workers, micro, block_rows):
    """What the ranks are given for positions start .. stop - 1, batch by batch, in any order."""
    order = Order(GROUPS, TRAINED, SEED, 16)
    plan = Plan(order, BATCH, micro, workers, start, STEPS, block_rows)
    per_step = plan.rounds * micro
    blocks = [plan.block_of_all(number) for number in range(plan.blocks)]
    ranks = [
        Block(*(np.concatenate(column) for column in zip(*(b[rank] for b in blocks), strict=True)))
        for rank in range(workers)
    ]
    return [
        sorted(s for mine in ranks for s in samples(part(mine, step * per_step, per_step)))
        for step in range(stop - start)
    ]


def part(block, start, count):
    """Some rows of a block."""
    return Block(*(column[start : start + count] for column in block))


UNDISTURBED = delivered(0, STEPS, workers=1, micro=BATCH, block_rows=BATCH)
START = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 30))


def test_the_undisturbed_run_goes_over_its_rows():
    assert len(UNDISTURBED) == STEPS
    assert all(len({s[0] for s in batch}) == BATCH for batch in UNDISTURBED)
    assert len({s for batch in UNDISTURBED for s in batch}) == STEPS * BATCH
    taken = [s for batch in UNDISTURBED for s in batch if s[2] != s[0]]
    assert taken and all(s[0] % 9 == 0 and s[2] % 9 for s in taken)


@given(st.lists(START, min_size=1, max_size=4), st.data())
def test_a_run_stopped_anywhere_and_gone_on_with_any_workers_is_the_undisturbed_one(starts, data):
    batches = []
    for number, (workers, micro, block_rows) in enumerate(starts):
        last = number == len(starts) - 1
        stop = STEPS if last else data.draw(st.integers(len(batches), STEPS - 1))
        batches += delivered(len(batches), stop, workers, micro, block_rows)
    assert batches == UNDISTURBED
