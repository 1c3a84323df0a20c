"""F12: the same run is started twice; see tests/train/test_fence.py for every way to claim a run."""

import pytest

from tests.faults.harness import SETTINGS, Run, wait_until
from tests.train.runs import pretrain

pytestmark = pytest.mark.faults


def test_a_second_start_of_a_running_run_is_refused_and_changes_nothing(tmp_path):
    run = Run(tmp_path, ["speed.workers=1"]).start()
    wait_until(lambda: (run.record_folder / "fence/00000001.token").exists(), 60, run)
    first = run.process.pid
    refused = pretrain(tmp_path, *SETTINGS, "speed.workers=1", timeout=60)
    assert refused.status == 2
    assert f"being trained by process {first} on" in refused.err
    assert run.process.wait(240) == 0
    assert run.record()["status"] == "finished" and len(run.record()["starts"]) == 1
