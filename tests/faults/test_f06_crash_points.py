"""F6: a crash at any write, fsync, rename or deletion of a save leaves a whole checkpoint to go on from."""

import shutil

import pytest

from mimray.train import checkpoint
from mimray.train.checkpoint import Shard
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver
from tests.faults.crashing_disk import Disk, crashes, watched
from tests.faults.tiny_checkpoints import assert_loads, share, trained

pytestmark = pytest.mark.faults

LOSSES = {1: 0.5, 2: 0.4, 3: None, 4: 0.45}  # by step: 2 stays, being the best
VARIANTS = 8  # ways in which what was not synced is there in part, at every call


def save(run, step, shards):
    """Write a checkpoint as the savers of so many ranks do; the first is the last to be done."""
    for rank in reversed(range(shards)):
        shard = Shard(rank, shards, f"the start of step {step}")
        saver = Saver(run, 1, shard)
        saver.snapshot.take(share(trained(step), shard))
        saver._write(shard, step, {"step": step}, LOSSES[step])
        assert saver.failed == []


def watched_calls(folder, steps, shards):
    """The calls of some saves in an empty run, with ("done", "", step) after each."""
    run = RunFolder(str(folder))
    run.make()
    with watched(run) as watch:
        for step in steps:
            save(run, step, shards)
            watch.note("done", run.path, step)
    return watch.calls


def rebuild(folder, contents):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, data in contents.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
    return RunFolder(str(folder))


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("shards", [1, 2])
def test_every_crash_leaves_a_whole_checkpoint(tmp_path, shards):
    calls = watched_calls(tmp_path / "run", LOSSES, shards)
    disk, done, seen = Disk(), 0, set()
    for number, call in enumerate(calls):
        disk.apply(call)
        done = call[2] if call[0] == "done" else done
        for contents in crashes(disk, number, VARIANTS):
            outcome = (done, frozenset(contents.items()))
            if outcome in seen:
                continue
            seen.add(outcome)
            run, when = rebuild(tmp_path / "after", contents), f"call {number}: {call[:2]}"
            step = checkpoint.verified(run)
            assert (step or 0) >= done, when  # what was reported is not lost
            assert checkpoint.newest(run) == step, when
            if step is not None:
                assert_loads(run, step, when)
    assert len(seen) > 150
    assert tree(tmp_path / "run") == disk.after_crash(lambda: 1.0)  # no call was missed


def test_the_next_save_goes_through_whatever_a_crash_left(tmp_path):
    disk = Disk()
    for number, call in enumerate(watched_calls(tmp_path / "run", (1, 2), shards=1)):
        disk.apply(call)
        for contents in crashes(disk, number, 1):
            run = rebuild(tmp_path / "after", contents)
            checkpoint.verified(run)
            save(run, 2, shards=1)
            assert checkpoint.verified(run) == 2
            assert_loads(run, 2)
            left = {path.name for path in (tmp_path / "after/checkpoints").iterdir()}
            assert left == {"step-00000002"}
