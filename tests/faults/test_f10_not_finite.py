"""F10: gradients that are not finite or a thousand times too large, on one rank of two."""

import pytest
from safetensors.numpy import load_file

from tests.faults.harness import STEPS, Run, weights

pytestmark = pytest.mark.faults


def bad(step: int, action: str, rank: int = 1) -> dict:
    return {"step": step, "rank": rank, "place": "backward", "action": action}


def test_one_rank_s_nan_and_spike_are_left_out_on_all(tmp_path, reference):
    run = Run(tmp_path, ["speed.workers=2"], [bad(7, "nan"), bad(33, "spike", 0)]).start()
    done = run.finish()
    assert done.status == 0, done.err
    rows = {row["step"]: row for row in done.rows}
    assert list(rows) == list(range(1, STEPS + 1)), "their positions are used up"
    assert [rows[s]["train/skipped"] for s in (6, 7, 32, 33, STEPS)] == [0, 1, 1, 2, 2]
    assert rows[7]["train/grad_norm"] is None and rows[33]["train/grad_norm"] > 100
    assert [(e["what"], e["step"], e["count"]) for e in done.record["events"]] == [
        ("updates left out", 7, 1),
        ("updates left out", 33, 1),
    ]
    expected = {row["step"]: row for row in reference[1].rows}
    assert all(rows[s]["train/loss"] == expected[s]["train/loss"] for s in range(1, 8))
    assert rows[8]["train/loss"] != expected[8]["train/loss"]
    assert run.rows_of_positions() == reference[0].rows_of_positions()


@pytest.mark.long
def test_many_in_a_row_go_back_to_the_checkpoint_and_a_kill_changes_nothing(tmp_path):
    faults = [bad(step, "nan") for step in range(12, 15)]
    settings = ["speed.workers=2", "optim.skips=3"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "killed").mkdir()
    plain = Run(tmp_path / "plain", settings, faults).start().finish()
    assert plain.status == 0, plain.err
    events = [(e["what"], e["step"], e.get("to")) for e in plain.record["events"]]
    assert ("rolled back", 14, 10) in events
    assert [row["step"] for row in plain.rows] == list(range(1, STEPS + 1))

    kill = {"step": 17, "rank": 0, "place": "step", "action": "kill"}
    again = [dict(fault, again=1) for fault in faults]  # the same gradients, when trained again
    run = Run(tmp_path / "killed", settings, [*faults, kill, *again]).start()
    killed = run.finish()
    assert killed.status == 0, killed.err
    assert len(killed.record["starts"]) == 2
    ours, theirs = load_file(weights(killed)), load_file(weights(plain))
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_run_that_cannot_be_helped_ends_with_exit_3(tmp_path):
    faults = [bad(step, "nan") for step in range(8, STEPS)]
    run = Run(tmp_path, ["speed.workers=2", "optim.skips=2", "optim.rollbacks=1"], faults).start()
    done = run.finish()
    assert done.status == 3
    assert "after 1 roll-backs to a checkpoint, again 2 updates in a row" in done.err
    assert "lower optim.lr" in done.err and "Traceback" not in done.err
    assert done.record["status"] == "failed"
    assert (done.folder / "checkpoints/step-00000005/manifest.json").exists()
