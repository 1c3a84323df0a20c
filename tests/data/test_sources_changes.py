"""Files that change or vanish after a source was opened stop the run by name."""

import os
import pickle
import platform

import pytest

from mimray.data.sources import open_source
from mimray.errors import RunFailed
from tests.data.conftest import PICTURES, write_parquet

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["x/a.parquet", "y/a.png"])
def test_a_file_written_anew_in_the_same_size_stops_the_run_by_name(tmp_path, name):
    file = tmp_path / name
    write_parquet(tmp_path / "x/a.parquet", PICTURES)
    (tmp_path / "y").mkdir()
    (tmp_path / "y/a.png").write_bytes(b"a")
    source, data = open_source(str(file.parent)), file.read_bytes()
    assert len(source.read([0])) == 1
    later = file.stat().st_mtime_ns + 10**9
    file.write_bytes(data)
    os.utime(file, ns=(later, later))
    with pytest.raises(RunFailed, match=f"{file}: has changed since the data was opened: it was w"):
        source.read([0])


def test_another_host_may_have_its_own_copy(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"a")
    source = open_source(str(tmp_path))
    os.utime(tmp_path / "a.png", ns=(1, 1))
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert pickle.loads(pickle.dumps(source)).read([0]) == [b"a"]


def test_a_file_that_vanishes_stops_the_run_by_name(tmp_path):
    write_parquet(tmp_path / "x/a.parquet", PICTURES)
    (tmp_path / "a.png").write_bytes(b"a")
    for uri, file in ((tmp_path / "x", "x/a.parquet"), (tmp_path / "a.png", "a.png")):
        source = open_source(str(uri))
        (tmp_path / file).unlink()
        with pytest.raises(RunFailed, match=f"{tmp_path / file}: cannot be read any more"):
            source.read([0])


def test_a_file_that_changes_stops_the_run_by_name(tmp_path):
    write_parquet(tmp_path / "x/a.parquet", PICTURES)
    (tmp_path / "a.png").write_bytes(b"a")
    for uri, file in ((tmp_path / "x", "x/a.parquet"), (tmp_path / "a.png", "a.png")):
        source = open_source(str(uri))
        with (tmp_path / file).open("ab") as opened:
            opened.write(b"more")
        with pytest.raises(RunFailed, match=f"{tmp_path / file}: has changed since the data was"):
            source.read([0])


def test_a_file_that_is_damaged_later_stops_the_run_in_one_line(tmp_path):
    file = tmp_path / "a.parquet"
    write_parquet(file, PICTURES)
    source, then = open_source(str(file)), file.stat()
    file.write_bytes(b"x" * then.st_size)
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    with pytest.raises(RunFailed, match=f"{file}: cannot be read any more") as caught:
        source.read([0])
    assert len(str(caught.value).splitlines()) == 1
