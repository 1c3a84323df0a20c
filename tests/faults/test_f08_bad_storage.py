"""F8: storage that is full, broken, read-only or slow: training goes on, the old checkpoint stays."""

import errno
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from mimray.data import files
from mimray.errors import RunFailed
from mimray.train import checkpoint
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver
from tests.faults.crashing_disk import watched
from tests.faults.tiny_checkpoints import assert_loads, trained
from tests.train.runs import TINY, pretrain

pytestmark = pytest.mark.faults

CODES = [errno.ENOSPC, errno.EIO, errno.EROFS]


@pytest.fixture
def run(tmp_path):
    run = RunFolder(str(tmp_path / "run"))
    run.make()
    return run


def save(run, step, keep=1):
    saver = Saver(run, keep)
    saver.save(step, *trained(step), {"step": step}, None)
    saver.finish()
    return saver


class Failing:
    """Lets some calls to storage pass and fails from then on, until it is mended."""

    def __init__(self, code: int, passes: int) -> None:
        self.code, self.left = code, passes

    def note(self, kind: str, path: object, *more: object) -> None:
        del more
        if kind == "unlink" and self.code == errno.ENOSPC:  # making room works on a full disk
            return
        self.left -= 1
        if self.left < 0:
            raise OSError(self.code, os.strerror(self.code), str(path))


def failing_save(run, step, code, passes):
    """A save whose storage fails after so many calls; whether it did, and the saver."""
    with watched(run) as watch:
        failing = Failing(code, passes)
        watch.note = failing.note
        saver = save(run, step)
    run.filesystem = RunFolder(run.uri).filesystem
    return failing.left < 0, saver


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_a_save_that_fails_at_any_call_costs_nothing(run, code, caplog):
    save(run, 1)
    failures = 0
    for passes in range(100):
        caplog.clear()
        failed, saver = failing_save(run, 2, code, passes)
        if not failed:
            break
        failures += 1
        if saver.failed:
            assert f"step 2 could not be written: [Errno {code}]" in caplog.text
            with pytest.raises(RunFailed, match=r"make room or mend run\.storage"):
                saver.close(2)
            whole = checkpoint.verified(run)
            assert whole in (1, 2)  # it may have been complete, and its name not yet safe
            assert_loads(run, whole)
        else:
            assert "old checkpoints could not be removed" in caplog.text
            assert checkpoint.verified(run) == 2
        save(run, 1)  # and back to the start, through what it left
        assert checkpoint.verified(run) == 1
        assert_loads(run, 1)
        left = sorted(str(p.relative_to(run.path)) for p in Path(run.path).rglob("*.part"))
        assert left == []
    assert failures > 20


def test_a_failed_save_gives_its_room_back(run):
    save(run, 1)
    failed, _ = failing_save(run, 2, errno.ENOSPC, passes=30)  # into the optimiser's file
    assert failed
    assert [p.name for p in Path(run.path, "checkpoints").iterdir()] == ["step-00000001"]


class Slow:
    """A file whose fsync waits until it is let go."""

    def __init__(self, monkeypatch) -> None:
        self.go = threading.Event()
        fsync = os.fsync
        monkeypatch.setattr(files.os, "fsync", lambda fd: self.go.wait(30) and fsync(fd))


def test_slow_storage_costs_checkpoints_and_neither_steps_nor_memory(run, monkeypatch):
    slow = Slow(monkeypatch)
    saver = Saver(run, 1)
    saver.save(1, *trained(1), {"step": 1}, None)
    places = [t.data_ptr() for file in saver.snapshot.tensors.values() for t in file.values()]
    threads = threading.active_count()
    began = time.monotonic()
    for _ in range(1000):  # checkpoints that are due meanwhile
        assert saver.late(wait=False)
    assert time.monotonic() - began < 1.0
    assert threading.active_count() == threads
    threading.Timer(0.3, slow.go.set).start()
    assert not saver.late(wait=True)  # as the last one asks
    saver.save(5, *trained(5), {"step": 5}, None)
    saver.close(5)
    assert [step for step, _ in saver.done] == [1, 5]
    assert places == [t.data_ptr() for f in saver.snapshot.tensors.values() for t in f.values()]
    assert_loads(run, 5)


# ----- a real filesystem ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(MiB)`: an empty filesystem of that size; called again it has another."""
    place = tmp_path / "runs"
    place.mkdir()
    mounted = []

    def size(mib):
        how = "remount," if mounted else ""
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{how}size={mib}m", "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"tmpfs cannot be mounted: {done.stderr.strip()}")
        mounted.append(mib)
        return place

    yield size
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_rows_on_a_full_disk_are_whole_or_not_there(small_disk):
    place = small_disk(1)
    run = RunFolder(str(place / "run"))
    run.make()
    rows = [{"step": step, "words": "x" * 5000} for step in range(300)]
    with pytest.raises(OSError, match="No space left"):
        for row in rows:
            run.append_rows([row])
    kept = run.rows()
    assert kept == rows[: len(kept)] and len(kept) > 100
    small_disk(4)
    run.append_rows(rows[len(kept) :])
    assert run.rows() == rows


def test_a_read_only_disk_fails_the_save_and_not_the_training(small_disk, caplog):
    place = small_disk(4)
    run = RunFolder(str(place / "run"))
    run.make()
    save(run, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    saver = save(run, 2)
    assert saver.failed and "Read-only file system" in caplog.text
    assert checkpoint.verified(run) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    save(run, 2)
    assert checkpoint.verified(run) == 2


@pytest.mark.long
def test_a_run_whose_disk_fills_up_goes_on_and_ends_as_if_it_had_not(small_disk, tmp_path):
    place = small_disk(64)
    rest = tmp_path / "rest"
    rest.mkdir()
    undisturbed = pretrain(rest, *TINY)
    assert undisturbed.status == 0, undisturbed.err
    size = sum(
        p.stat().st_size for p in (undisturbed.folder / "checkpoints").rglob("*") if p.is_file()
    )
    one = size / len(list((undisturbed.folder / "checkpoints").iterdir())) / 2**20
    small_disk(round(1.6 * one + 2))  # of checkpoints at 4, 8 and 12, the second does not fit
    done = pretrain(tmp_path, *TINY)
    assert done.status == 3, done.err
    assert "the checkpoint of step 12 could not be written" in done.err
    assert "No space left" in done.err and "Traceback" not in done.err
    run = RunFolder(str(place / "run"))
    assert checkpoint.verified(run) == 4
    small_disk(64)
    again = pretrain(tmp_path, *TINY)
    assert again.status == 0, again.err
    assert [start["step"] for start in again.record["starts"]] == [0, 4]
    assert [row["step"] for row in again.rows] == list(range(1, 13))
    ours, theirs = (
        load_file(r.folder / "checkpoints/step-00000012/model.safetensors")
        for r in (again, undisturbed)
    )
    assert all((ours[name] == theirs[name]).all() for name in theirs)
