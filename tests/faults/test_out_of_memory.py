"""A trainer that gets no memory: the run ends once, with exit 3 and the setting to change."""

import pytest

from tests.faults.harness import Run

pytestmark = pytest.mark.faults


def test_it_is_said_once_and_not_tried_again(tmp_path):
    fault = {"step": 7, "rank": 1, "place": "step", "action": "memory"}
    run = Run(tmp_path, ["speed.workers=2"], [fault]).start()
    done = run.finish()
    assert done.status == 3
    assert done.err.strip().splitlines()[-1].startswith("mimray: out of memory at ")
    assert done.err.count("out of memory") == 1 and "Traceback" not in done.err
    assert "lower speed.micro_batch=8 or" in done.err
    assert done.record["status"] == "failed" and len(done.record["starts"]) == 1
    assert done.record["steps"] == 5, "its checkpoint stands"
