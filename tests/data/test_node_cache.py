import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from mimray.data import node_cache
from mimray.data.node_cache import NodeCache

pytestmark = pytest.mark.unit

KEYS = [f"piece-{i}" for i in range(40)]

FETCH_ALL = """
import sys, time
from pathlib import Path
import pyarrow as pa
from mimray.data.node_cache import NodeCache

cache, made = NodeCache(limit=2**30, token=sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    def make():
        with made.open("a") as file:
            file.write(f"{i}\\n")
        time.sleep(0.005)
        return pa.py_buffer(b"%d" % i * 1000)
    assert cache.fetch(f"piece-{i}", make).to_pybytes() == b"%d" % i * 1000
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cache(parent):
    cache = NodeCache(limit=10_000)
    yield cache
    cache.clear()


def start(token, made):
    """A process that fetches every piece when it is told to, and ends when told again."""
    command = [sys.executable, "-c", FETCH_ALL, token, str(made)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def pieces(folder):
    return {file.name for file in folder.glob("[!.]*")}


def fetch(cache, key, data=b"x"):
    return cache.fetch(key, lambda: pa.py_buffer(data)).to_pybytes()


def never():
    raise AssertionError("made again")


def test_two_processes_make_each_piece_once(parent, tmp_path):
    made = tmp_path / "made"
    both = [start("shared", made) for _ in range(2)]
    for step in ("ready", "done"):
        for process in both:
            assert process.stdout.readline().strip() == step
        for process in both:
            go(process)
    assert [process.wait(10) for process in both] == [0, 0]
    assert sorted(map(int, made.read_text().split())) == list(range(40))
    NodeCache(1, "shared").clear()


def test_the_folder_of_a_dead_process_is_swept_and_that_of_a_live_one_kept(parent, tmp_path, cache):
    dead, live = start("dead", tmp_path / "1"), start("live", tmp_path / "2")
    folders = [NodeCache(1, token).folder for token in ("dead", "live")]
    for process in (dead, live):
        process.stdout.readline()
        go(process)
        assert process.stdout.readline() == "done\n"
    dead.send_signal(signal.SIGKILL)
    dead.wait(10)
    fetch(cache, "a")
    assert not folders[0].exists() and pieces(folders[1]) == set(KEYS)
    go(live)
    live.wait(10)


def test_a_folder_that_is_removed_in_use_is_made_anew(cache):
    kept = cache.fetch("a", lambda: pa.py_buffer(b"data"))
    handle = node_cache._held[str(cache.folder)]
    shutil.rmtree(cache.folder)
    assert fetch(cache, "b", b"b") == b"b" and pieces(cache.folder) == {"b"}
    assert cache.fetch("b", never).to_pybytes() == b"b" and kept.to_pybytes() == b"data"
    held = node_cache._held[str(cache.folder)]
    assert os.path.samestat(os.fstat(held), (cache.folder / ".used").stat())
    assert handle == held or not Path(f"/proc/self/fd/{handle}").exists()
    with (cache.folder / ".used").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_another_process_made_anew_is_used_like_our_own(cache):
    fetch(cache, "a")
    shutil.rmtree(cache.folder)
    cache.folder.mkdir()
    (cache.folder / ".used").touch()
    fetch(cache, "b")
    with (cache.folder / ".used").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_swept_before_it_is_locked_is_made_anew(cache, monkeypatch):
    """Another process removes it between our opening of `.used` and our lock."""
    flock, sweeps = fcntl.flock, []

    def swept_first(handle, how):
        if how == fcntl.LOCK_SH and len(sweeps) < 2:
            sweeps.append(shutil.rmtree(cache.folder))
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", swept_first)
    assert fetch(cache, "a", b"a") == b"a" and len(sweeps) == 2
    assert cache.fetch("a", never).to_pybytes() == b"a"
    with (cache.folder / ".used").open() as other, pytest.raises(BlockingIOError):
        flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.timeout(10)
def test_a_pipe_a_link_and_a_file_in_place_of_a_folder_are_left_alone(parent, tmp_path, cache):
    prefix = f"mimray-cache-{os.getuid()}-"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.used").touch()
    (parent / f"{prefix}pipe").mkdir(parents=True)
    os.mkfifo(parent / f"{prefix}pipe/.used")
    (parent / f"{prefix}link").symlink_to(tmp_path / "elsewhere")
    (parent / f"{prefix}linked").mkdir()
    (parent / f"{prefix}linked/.used").symlink_to(tmp_path / "elsewhere/.used")
    (parent / f"{prefix}file").touch()
    (parent / f"{prefix}dead").mkdir()
    (parent / f"{prefix}dead/.used").touch()
    before = set(parent.iterdir())
    assert fetch(cache, "a", b"a") == b"a"
    assert set(parent.iterdir()) == before - {parent / f"{prefix}dead"} | {cache.folder}
    assert (tmp_path / "elsewhere/.used").exists()


def test_a_link_in_place_of_our_own_folder_is_not_followed(parent, tmp_path, cache):
    (tmp_path / "elsewhere").mkdir()
    parent.mkdir()
    cache.folder.symlink_to(tmp_path / "elsewhere")
    assert fetch(cache, "a", b"a") == b"a" and not list((tmp_path / "elsewhere").iterdir())
    cache.folder.unlink()


def test_where_nothing_can_be_written_pieces_are_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("/proc/nowhere", str(tmp_path / "file")):
        monkeypatch.setenv("MIMRAY_CACHE", place)
        cache = NodeCache(limit=100)
        assert [fetch(cache, "a", data) for data in (b"1", b"2")] == [b"1", b"2"]


def test_on_a_full_disk_pieces_are_made(cache):
    fetch(cache, "small")
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.SIG_IGN
    before = signal.signal(signal.SIGXFSZ, ignored)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a write fails part of the way
    try:
        assert fetch(cache, "large", b"x" * 5000) == b"x" * 5000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert pieces(cache.folder) == {"small"}


def test_what_is_over_the_limit_goes_oldest_first_and_stays_readable(cache):
    mapped = [cache.fetch(f"{i}", lambda i=i: pa.py_buffer(b"%d" % i * 3000)) for i in range(9)]
    sizes = {file.name: file.stat().st_size for file in cache.folder.glob("[!.]*")}
    assert sum(sizes.values()) <= cache.limit and sorted(sizes) == ["6", "7", "8"]
    assert [m.to_pybytes() for m in mapped] == [b"%d" % i * 3000 for i in range(9)]


def test_threads_hold_one_handle(cache):
    gate = threading.Barrier(8)

    def work(number):
        gate.wait()
        fetch(cache, f"{number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handles = [str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.exists()]
    assert handles.count(str(cache.folder / ".used")) == 1


def test_locks_are_spread(cache):
    """Keys of one source differ in their last digits only."""
    for number in range(200):
        fetch(cache, f"0123456789abcdef-{number}")
    locks = [file.name for file in cache.folder.glob(".[0-9]*")]
    assert len(locks) > 50
