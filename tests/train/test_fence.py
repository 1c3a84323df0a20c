"""One writer a run: who may claim it, when, and what the loser may still write."""

import copy
import json
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from pyarrow import fs

from mimray.errors import TakenOver, UserError
from mimray.train import checkpoint, fence, tensor_file
from mimray.train.checkpoint import Shard
from mimray.train.fence import Fence, newest_token
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver
from tests.train.racing import race

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def claimed(folder) -> RunFolder:
    run = RunFolder(str(folder))
    Fence(run).claim()
    return run


class Store(fs.SubTreeFileSystem):
    """A local folder that is not seen as one: no exclusive creation, as on an object store."""


def on_store(folder) -> RunFolder:
    run = RunFolder(str(folder))
    run.filesystem, run.path = Store(str(folder), fs.LocalFileSystem()), "run"
    return run


def foreign(folder, number=1, **sign):
    """A holder on a host that this one cannot look into."""
    place = folder / "fence"
    place.mkdir(exist_ok=True)
    about = {"pid": 1, "host": "elsewhere", "system": "another", "began": 5}
    (place / f"{number:08d}.token").write_text(json.dumps(about))
    (place / f"{number:08d}.sign").write_text(json.dumps(sign or {"count": 3}))


def test_a_living_holder_on_this_host_is_left_alone_at_once(folder):
    claimed(folder)
    began = time.monotonic()
    with pytest.raises(UserError, match=f"being trained by process {os.getpid()} on"):
        Fence(RunFolder(str(folder))).claim()
    assert time.monotonic() - began < 1


def another_holder(folder) -> subprocess.Popen:
    """A process that holds the run until it is killed."""
    code = (
        "from mimray.train.fence import Fence; from mimray.train.run_folder import RunFolder\n"
        f"Fence(RunFolder({str(folder)!r})).claim(); print('held', flush=True)\n"
        "import time; time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


def test_a_stopped_process_still_holds(folder):
    child = another_holder(folder)
    try:
        os.kill(child.pid, 19)
        with pytest.raises(UserError, match=f"process {child.pid} "):
            Fence(RunFolder(str(folder))).claim()
    finally:
        child.kill()
        child.wait()
    claimed(folder)  # a stale hold after kill -9: taken over at once


def test_a_number_that_the_kernel_gave_again_does_not_hold(folder):
    run = claimed(folder)
    token = folder / "fence" / f"{run.token}.token"
    about = json.loads(token.read_text())
    token.write_text(
        json.dumps(about | {"began": about["began"] - 1})
    )  # as after a reboot of the pid
    assert claimed(folder).token == "00000002"


def test_a_released_run_is_free_at_once(folder):
    run = RunFolder(str(folder))
    holder = Fence(run)
    holder.claim()
    holder.release()
    assert claimed(folder).token == "00000002"


def test_a_silent_holder_elsewhere_is_taken_over_and_a_sounding_one_not(folder, monkeypatch):
    monkeypatch.setattr(fence, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(fence, "_SIGN_SECONDS", 0.5)
    foreign(folder)
    count, over = iter(range(10, 99)), threading.Event()

    def sound():
        while not over.wait(0.2):
            (folder / "fence/00000001.sign").write_text(json.dumps({"count": next(count)}))

    thread = threading.Thread(target=sound)
    thread.start()
    with pytest.raises(UserError, match="on elsewhere"):
        Fence(RunFolder(str(folder))).claim()
    over.set()
    thread.join()
    began = time.monotonic()
    assert claimed(folder).token == "00000002"
    assert 0.9 < time.monotonic() - began < 3.0


@pytest.mark.parametrize("shift", [-86400, 86400])
def test_clocks_do_not_matter(folder, monkeypatch, shift):
    """Files dated a day off, and a clock that steps: a living holder holds, a dead one does not."""
    run = claimed(folder)
    for file in (folder / "fence").iterdir():
        os.utime(file, (time.time() + shift,) * 2)
    monkeypatch.setattr(time, "time", lambda: 1e9 + shift)
    with pytest.raises(UserError, match="being trained"):
        Fence(RunFolder(str(folder))).claim()
    run.write("recipe.yaml", b"")


def test_who_was_taken_over_from_writes_nothing_more(folder):
    old = claimed(folder)
    old.write_record({"recipe_digest": "old", "status": "running"})
    foreign(folder, 2)
    for write in (
        lambda: old.write_record({"recipe_digest": "late"}),
        lambda: old.append_rows([{"step": 1}]),
        lambda: old.keep_rows_until(0),
        lambda: checkpoint.write(old, 7, {}, {"step": 7}),
    ):
        with pytest.raises(TakenOver, match="taken this run over"):
            write()
    assert json.loads((folder / "run.json").read_text())["recipe_digest"] == "old"
    assert not (folder / "metrics.jsonl").exists()
    assert checkpoint.newest(old) is None


def test_who_was_taken_over_from_removes_nothing_of_the_next_one_s(folder):
    old = claimed(folder)
    for step in (2, 4):
        checkpoint.write(old, step, {}, {"step": step})
    foreign(folder, 2)
    new = RunFolder(str(folder))  # as its own trainers would
    checkpoint.write(new, 40, {}, {"step": 40})
    (folder / "checkpoints/step-00000003").mkdir()  # which it is writing
    for remove in (lambda: checkpoint.prune(old, 4, 1), lambda: checkpoint.remove_torn(old, 10)):
        with pytest.raises(TakenOver):
            remove()
    saver = Saver(old, keep=1)
    saver._write(Shard(), 6, {"step": 6}, None)
    assert saver.failed[0][0] == 6 and "taken this run over" in saver.failed[0][1]
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == [f"step-{step:08d}" for step in (2, 3, 4, 40)]


def test_a_file_that_was_written_while_another_took_over_is_dropped(folder, monkeypatch):
    old = claimed(folder)
    real = tensor_file.write_tensors

    def slow(file, tensors):
        found = real(file, tensors)
        foreign(folder, 2)
        return found

    monkeypatch.setattr(tensor_file, "write_tensors", slow)
    with pytest.raises(TakenOver):
        checkpoint.write(old, 7, {"model.safetensors": {"a": torch.ones(3)}}, {"step": 7})
    assert list((folder / "checkpoints/step-00000007").iterdir()) == []


def test_of_many_that_start_at_once_one_holds(folder):
    assert race(folder) == ["00000001"]


def test_on_a_store_at_most_one_of_two_holds(folder, monkeypatch):
    monkeypatch.setattr(fence, "_SETTLE_SECONDS", 0.5)
    (folder / "run").mkdir()
    held, barrier = [], threading.Barrier(4)

    def start():
        run = on_store(folder)
        barrier.wait()
        try:
            Fence(run).claim()
            held.append(run.token)
        except UserError:
            pass

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    run = on_store(folder)
    assert newest_token(run.filesystem, "run/fence") == held[0]
    with pytest.raises(UserError, match="being trained"):
        Fence(run).claim()


def test_a_run_that_never_began_leaves_nothing(folder):
    holder = Fence(RunFolder(str(folder)))
    holder.claim()
    holder.withdraw()
    holder.release()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("where", [RunFolder, on_store], ids=["local", "store"])
def test_a_group_that_was_given_up_writes_nothing_more(folder, where, monkeypatch):
    monkeypatch.setattr(fence, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(fence, "_SIGN_SECONDS", 0.05)
    (folder / "run").mkdir()
    run = where(str(folder))
    holder = Fence(run)
    holder.claim()
    given_up = copy.copy(run)  # what its trainers were sent
    holder.renew()
    run.write("recipe.yaml", b"the driver's")
    with pytest.raises(TakenOver):
        given_up.write("recipe.yaml", b"a stale trainer's")
    copy.copy(run).append_rows([{"step": 1}])
    assert run.read("recipe.yaml") == b"the driver's"
    with pytest.raises(UserError, match="being trained"):  # the hold is still one
        Fence(where(str(folder))).claim()
    holder.release()


def test_the_driver_writes_while_the_number_changes(folder):
    run = RunFolder(str(folder))
    holder, over, failed = Fence(run), threading.Event(), []
    holder.claim()

    def write():
        while not over.is_set():
            try:
                run.write("run.json", b"{}")
            except TakenOver as error:
                failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(50):
        holder.renew()
    over.set()
    writer.join()
    holder.release()
    assert not failed and int(run.token) == 51


def test_who_was_taken_over_from_cannot_renew(folder):
    run = RunFolder(str(folder))
    holder = Fence(run)
    holder.claim()
    foreign(folder, 2)
    with pytest.raises(TakenOver):
        holder.renew()
    with pytest.raises(TakenOver):
        run.write("recipe.yaml", b"")
    holder.release()


def test_a_holder_that_died_is_known_to_be_gone_and_others_are_not(folder):
    run = RunFolder(str(folder))
    assert not Fence(run).is_gone()  # there was none
    child = another_holder(folder)
    try:
        assert not Fence(run).is_gone()
    finally:
        child.kill()
        child.wait()
    assert Fence(run).is_gone()
    foreign(folder, 2)
    assert not Fence(run).is_gone()  # nobody here can tell
    holder = Fence(RunFolder(str(folder)))
    holder.token = "00000003"
    (folder / "fence/00000003.token").write_text('{"pid": 1}')
    holder.release()
    assert not Fence(run).is_gone()
