"""Pictures decoded by several threads: in order, each batch whole, the first by all of them."""

import threading

import numpy as np
import pytest

from mimray.data.framing import Framing
from mimray.data.sources import open_source
from mimray.evaluate import decoding
from mimray.evaluate.decoding import decoded

pytestmark = pytest.mark.unit
FRAMING = Framing(16, False)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(threads):
    source = open_source("builtin:photos/val")
    batches = [np.array([5, 3, 8]), np.array([1]), np.arange(10, 25), np.array([], np.int64)]
    found = list(decoded(source, batches, FRAMING, threads))
    assert [block["row"].tolist() for block in found] == [batch.tolist() for batch in batches]
    (whole,) = decoded(source, [np.concatenate(batches)], FRAMING, 1)
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in found]), values)
    assert whole["image"].std() > 10


def test_all_threads_share_one_batch(monkeypatch):
    together = threading.Barrier(3, timeout=10)  # broken, unless three threads are at it at once

    def load(source, block, framing):
        together.wait()
        return {"row": block.rows}

    monkeypatch.setattr(decoding, "load_block", load)
    (block,) = decoded(None, [np.arange(8)], FRAMING, 3)
    assert block["row"].tolist() == list(range(8))


def test_no_more_than_two_batches_are_decoded_ahead(monkeypatch):
    monkeypatch.setattr(decoding, "load_block", lambda source, block, framing: {"row": block.rows})
    asked = []

    def batches():
        for number in range(9):
            asked.append(number)
            yield np.array([number])

    for place, _ in enumerate(decoded(None, batches(), FRAMING, 2)):
        assert len(asked) <= place + 3
    assert len(asked) == 9
