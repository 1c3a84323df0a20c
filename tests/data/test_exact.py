"""The global batch at a position: the same samples, crops, flips and masks for every way of going on."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.crop import draws, random_crop
from mimray.data.order import Order, held_out
from mimray.data.plan import PADDING, Plan
from mimray.data.rowset import RowSet
from mimray.hashing import key
from mimray.mim.masks import draw

pytestmark = pytest.mark.unit

SEED, BATCH, STEPS, ROWS = 7, 11, 13, 60
GROUPS = np.array([9, 1, 20, 13, 17])
TRAINED = RowSet.everything(ROWS).without(held_out(ROWS, 0.02, 0))  # 30 rows: two batches an epoch


def samples(rows, epochs):
    """(row, epoch, box, flip, digest of the mask) of some rows of pictures of one size."""
    numbers = draws(SEED, rows, epochs)
    seeds = key(SEED, torch.from_numpy(rows), torch.from_numpy(epochs))
    masks = draw("random", 32, 8, 4, 0.6, seeds).numpy()
    return [
        (
            int(row),
            int(epoch),
            random_crop(120, 160, (0.2, 1.0), (3 / 4, 4 / 3), 0.5, number),
            hashlib.sha256(mask.tobytes()).hexdigest(),
        )
        for row, epoch, number, mask in zip(rows, epochs, numbers, masks, strict=True)
    ]


def delivered(start, stop, workers, micro, block_rows):
    """What the ranks are given for positions start .. stop - 1, batch by batch, in any order."""
    order = Order(GROUPS, TRAINED, SEED, 16)
    plan = Plan(order, BATCH, micro, workers, start, STEPS, block_rows)
    per_step = plan.rounds * micro
    blocks = [plan.block_of_all(number) for number in range(plan.blocks)]
    batches = []
    for step in range(stop - start):
        batch = []
        for rank in range(workers):
            rows = np.concatenate([block[rank].rows for block in blocks])
            epochs = np.concatenate([block[rank].epochs for block in blocks])
            mine = slice(step * per_step, (step + 1) * per_step)
            real = rows[mine] != PADDING
            batch += samples(rows[mine][real], epochs[mine][real])
        batches.append(sorted(batch))
    return batches


UNDISTURBED = delivered(0, STEPS, workers=1, micro=BATCH, block_rows=BATCH)
START = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 30))


def test_the_undisturbed_run_goes_over_its_rows():
    assert len(UNDISTURBED) == STEPS
    assert all(len({s[0] for s in batch}) == BATCH for batch in UNDISTURBED)
    assert len({s for batch in UNDISTURBED for s in batch}) == STEPS * BATCH


@given(st.lists(START, min_size=1, max_size=4), st.data())
def test_a_run_stopped_anywhere_and_gone_on_with_any_workers_is_the_undisturbed_one(starts, data):
    batches = []
    for number, (workers, micro, block_rows) in enumerate(starts):
        last = number == len(starts) - 1
        stop = STEPS if last else data.draw(st.integers(len(batches), STEPS - 1))
        batches += delivered(len(batches), stop, workers, micro, block_rows)
    assert batches == UNDISTURBED
