"""Against a real server of the S3 protocol on loopback."""

import contextlib
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
from pyarrow import fs

from mimray.data import stores
from mimray.data.files import join, list_files, read_bytes, read_unchanged, resolve, write_atomic
from mimray.data.sources import open_source
from mimray.errors import RunFailed
from tests.data.conftest import refused, write_parquet
from tests.data.test_webdataset import pictures, samples, write_tar

pytestmark = pytest.mark.unit
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="session")
def server():
    """Address of a server that has a bucket, `bucket`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would block
    request = urllib.request.Request(f"{found[0]}/bucket", method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
    yield found[0]
    process.terminate()
    process.wait()


@pytest.fixture(autouse=True)
def credentials(tmp_path, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def upload(server, tmp_path):
    """Copy a local folder into a folder of the bucket of this test's own; gives its URI."""

    def upload(folder):
        uri = f"s3://bucket/{tmp_path.name}?endpoint_override={server}"
        store, path = resolve(uri)
        for file in folder.rglob("*"):
            if file.is_file():
                with store.open_output_stream(f"{path}/{file.relative_to(folder)}") as stream:
                    stream.write(file.read_bytes())
        return uri

    return upload


def fill(kind, folder, count=100):
    """One data set in each format: what its rows are (70 of them in the first of two shards)."""
    wanted = [f"picture {i}".encode() * 9 for i in range(count)]
    if kind == "Parquet":
        write_parquet(folder / "data/train-0.parquet", wanted[:70], group=35)
        write_parquet(folder / "data/train-1.parquet", wanted[70:], group=20)
        write_parquet(folder / "data/val-0.parquet", wanted[:3])
    elif kind == "WebDataset":
        wanted = pictures(samples(count))
        write_tar(folder / "x-train-0.tar", samples(count)[:140])
        write_tar(folder / "x-train-1.tar", samples(count)[140:])
        write_tar(folder / "x-val-0.tar", samples(3))
    else:
        for i, data in enumerate(wanted):
            file = folder / f"train/class {i // 50}/{i:03d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return wanted


KINDS = ["Parquet", "WebDataset", "folder of pictures"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_the_same_in_a_store_as_on_disk(tmp_path, upload, kind, cache):
    wanted = fill(kind, tmp_path / "data")
    local, remote = open_source(str(tmp_path / "data")), open_source(upload(tmp_path / "data"))
    assert remote.kind == kind and remote.read(range(100)) == wanted
    assert remote.digest == local.digest and remote.parts() == local.parts()
    assert (remote.groups == local.groups).all() and remote.classes == local.classes
    assert (remote.labels() == local.labels()).all()
    assert [remote.name(row) for row in (0, 69, 99)] == [local.name(row) for row in (0, 69, 99)]
    rows = np.array([99, 3, 64, 63, 3])
    remote.cache = cache
    again = pickle.loads(pickle.dumps(remote))  # as a data task gets it
    for source in (local, remote, again, again):
        assert source.read(rows) == [wanted[row] for row in rows]


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_piece_is_fetched_once_with_a_cache(tmp_path, upload, kind, cache):
    wanted = fill(kind, tmp_path / "data")
    uri = upload(tmp_path / "data")
    source = open_source(uri)
    source.cache = cache
    assert source.read([0]) == [wanted[0]]
    first = source.parts()[0][0]
    store, path = resolve(join(uri, *first.split("/")))
    store.delete_file(path)
    assert source.read([1, 19]) == [wanted[1], wanted[19]]
    with pytest.raises(RunFailed, match=f"{path}: cannot be read any more"):
        source.read([0, 69])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_in_a_store_stops_the_run_by_name(tmp_path, upload, kind):
    fill(kind, tmp_path / "data", 5)
    uri = upload(tmp_path / "data")
    source = open_source(uri)
    store, path = resolve(join(uri, *source.parts()[0][0].split("/")))
    write_atomic(store, path, b"something else")
    with pytest.raises(RunFailed, match=f"{path}: has changed since the data was opened"):
        source.read([0])


def test_the_path_of_a_uri(server):
    for uri, path in (
        ("s3://bucket/a/b/?region=x", "bucket/a/b"),
        ("s3://bucket?region=x", "bucket"),
        ("s3://bucket/?region=x", "bucket"),
        ("s3://bucket/a b/%5B1%5D #*.tar?region=x", "bucket/a b/[1] #*.tar"),
        (join("s3://bucket?region=x", "a b?", "100%"), "bucket/a b?/100%"),
    ):
        filesystem, found = resolve(f"{uri}&endpoint_override={server}")
        assert (filesystem.type_name, filesystem.region, found) == ("s3", "x", path)


def test_one_file_a_pattern_and_odd_names(tmp_path, upload):
    for name in ("a b.parquet", "a c.parquet", "100%.parquet", "[1].parquet"):
        write_parquet(tmp_path / "data/sub folder" / name, [name.encode()])
    uri = upload(tmp_path / "data")
    folder = join(uri, "sub folder")
    assert len(open_source(folder)) == 4
    assert open_source(join(folder, "100%.parquet")).read([0]) == [b"100%.parquet"]
    assert open_source(join(folder, "[1].parquet")).read([0]) == [b"[1].parquet"]
    plain = uri.replace("?", "/sub folder/a *.parquet?")
    assert open_source(plain).read([0, 1]) == [b"a b.parquet", b"a c.parquet"]


def test_files_are_written_and_read(server):
    store, path = resolve(f"s3://bucket/write/a.bin?endpoint_override={server}")
    assert read_bytes(store, path) is None
    for data in (b"old", b"", b"x" * 11 * 2**20):  # the last in several parts
        write_atomic(store, path, data)
        assert read_bytes(store, path) == data
    assert [f.path for f in list_files(f"s3://bucket/write?endpoint_override={server}")[2]] == [
        path
    ]


def test_the_endpoint_may_stand_in_the_environment(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    write_atomic(*resolve("s3://bucket/env/a.bin"), b"x")
    assert read_bytes(*resolve("s3://bucket/env/a.bin")) == b"x"


def test_the_servers_tell_the_region_of_a_bucket(server):
    maker = fs.S3FileSystem(
        region="eu-west-3", endpoint_override=server, allow_bucket_creation=True
    )
    maker.create_dir("far")
    assert stores._region("far", server) == "eu-west-3"
    assert stores._region("nobody-has-this", server) is None


# ----- what is wrong is said in a line, and soon -------------------------------------------------


def soon(uri, limit):
    """The one line that opening a source gives, within some seconds."""
    start = time.monotonic()
    line = refused(open_source, uri)
    assert time.monotonic() - start < limit
    assert line.startswith(uri)
    return line


def test_a_bucket_or_folder_that_is_not_there(server):
    for place in ("nobody-has-this", "nobody-has-this/a/*.tar", "bucket/no/such/folder"):
        assert "no such file or folder" in soon(f"s3://{place}?endpoint_override={server}", 5)


def test_access_denied(server):
    def authorise_after(requests):
        request = urllib.request.Request(
            f"{server}/moto-api/reset-auth", requests, {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=20).close()

    authorise_after(b"0")
    try:
        line = soon(f"s3://bucket/a?endpoint_override={server}", 5)
        assert "ACCESS_DENIED" in line
        line = soon(f"s3://bucket/*.tar?endpoint_override={server}", 5)
        assert "ACCESS_DENIED" in line
    finally:
        authorise_after(b"inf")


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        line = soon(f"s3://bucket/a?endpoint_override={endpoint}", 10)
    assert "connect" in line


def test_somebody_listens_and_says_nothing(monkeypatch):
    monkeypatch.setattr(stores, "_FIRST_ANSWER_S", 1.0)  # 4 s take 14 s in all
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = soon(f"s3://bucket/a?endpoint_override={endpoint}", 10)
    assert "Timeout" in line


def test_a_name_that_no_server_has():
    assert "resolve host" in soon("s3://bucket/a?endpoint_override=http://host.invalid:1", 10)


def test_a_process_that_used_a_store_ends(server, tmp_path, upload):
    """The SDK under pyarrow has threads of its own that must not outlive the interpreter."""
    fill("WebDataset", tmp_path / "data")
    uri = upload(tmp_path / "data")
    code = (
        "import sys; from mimray.data.sources import open_source\n"
        f"source = open_source({uri!r}); print(len(source.read(range(100))))\n"
        "open_source(sys.argv[1])"
    )
    for last, status in ((uri, 0), (uri.replace("bucket", "nobody"), 1)):
        ended = subprocess.run(
            [sys.executable, "-c", code, last], capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stdout) == (status, "100\n")
        assert bool(ended.stderr) == (status == 1)


class Stumbling:
    """A way to the server that is closed to the next `refusals` connections; a request makes 3."""

    def __init__(self, server):
        self.target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self.refusals = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.refusals > 0:
                    self.refusals -= 1
                    client.close()
                    continue
                upstream = socket.create_connection(self.target)
                for one, other in ((client, upstream), (upstream, client)):
                    threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def test_a_store_that_stumbles_does_not_stop_the_run(server, monkeypatch):
    monkeypatch.setattr("mimray.data.files._PAUSES", (0.1,))
    write_atomic(*resolve(f"s3://bucket/stumble/a?endpoint_override={server}"), b"abc")
    way = Stumbling(server)
    store, path = resolve(f"s3://bucket/stumble/a?endpoint_override={way.endpoint}")
    way.refusals = 4
    assert read_unchanged(store, path, 3, lambda file: bytes(file.read())) == b"abc"
    assert way.refusals == 0
    way.listener.close()  # and now it is gone for good
    with pytest.raises(RunFailed, match="bucket/stumble/a: cannot be read any more: "):
        read_unchanged(pickle.loads(pickle.dumps(store)), path, 3, lambda file: bytes(file.read()))


# ----- a run's folder ----------------------------------------------------------------------------


def test_a_run_folder_in_a_store(server):
    from mimray.train.run_folder import RunFolder
    from mimray.verbs.runs import find_runs

    storage = f"s3://bucket/runs?endpoint_override={server}"
    run = RunFolder(join(storage, "one"))
    assert run.path == "bucket/runs/one" and not run.local
    run.check_free()
    run.write_record({"recipe_digest": "x", "name": "one"})
    run.append_rows([{"step": 1}, {"step": 2}])
    run.append_rows([{"step": 3}])
    run.keep_rows_until(2)
    assert [row["step"] for row in RunFolder(join(storage, "one")).rows()] == [1, 2]
    assert [record["name"] for record in find_runs(storage)] == ["one"]
    RunFolder(join(storage, "one")).check_free()
    assert "is there and is no run" in refused(RunFolder(storage).check_free)
    line = refused(RunFolder(storage.replace("bucket", "nobody-has-this")).check_free)
    assert line.startswith("run.storage: s3://nobody-has-this") and "cannot be written" in line
