import os
from pathlib import Path

import pytest
from pyarrow import fs

from mimray.data.files import absolute, join, list_files, read_bytes, resolve, write_atomic
from tests.data.conftest import refused

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden", "sub/.hidden", "deep/er/d.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(uri):
    _, base, files = list_files(str(uri))
    return [os.path.relpath(f.path, base) for f in files]


def test_every_file_under_a_folder_in_order_of_path_but_hidden_ones(folder):
    assert names(folder) == ["a.txt", "b.txt", "deep/er/d.bin", "sub/c.txt"]


def test_files_of_hidden_folders_are_left_out(folder):
    (folder / ".cache").mkdir()
    (folder / ".cache/e.txt").write_text("e")
    assert ".cache/e.txt" not in names(folder)


def test_a_hidden_folder_that_is_asked_for_is_listed(tmp_path):
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos/a.txt").write_text("a")
    assert names(tmp_path / ".photos") == ["a.txt"]


def test_one_file_is_listed_with_its_folder(folder):
    _, base, files = list_files(str(folder / "a.txt"))
    assert (base, [f.base_name for f in files]) == (str(folder), ["a.txt"])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt", "b.txt", "sub/c.txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
        ("?.bin", ["deep/er/d.bin"]),
    ],
)
def test_the_last_part_may_be_a_pattern(folder, pattern, found):
    assert names(folder / pattern) == found


@pytest.mark.parametrize("name", ["photos [2020]", "what?", "a*b"])
def test_what_exists_is_no_pattern(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.txt").write_text("a")
    assert names(tmp_path / name) == ["a.txt"]
    assert names(tmp_path / name / "a.txt") == ["a.txt"]


def test_a_file_uri_is_the_same_as_a_path(folder):
    assert names(f"file://{folder}") == names(folder)


def test_home_and_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert resolve("~/x")[1] == absolute("~/x") == str(tmp_path / "x")
    assert resolve("x")[1] == absolute("x") == str(Path.cwd() / "x")
    assert absolute("s3://bucket/x") == "s3://bucket/x"


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("/a/b", ("c", "d e?"), "/a/b/c/d e?"),
        ("/a/b/", ("c",), "/a/b/c"),
        ("/", ("c",), "/c"),
        ("file:///", ("c",), "file:///c"),
        ("s3://b", ("c",), "s3://b/c"),
        ("s3://b/a/", ("c", "d.json"), "s3://b/a/c/d.json"),
        ("s3://b/a?region=x&scheme=http", ("c",), "s3://b/a/c?region=x&scheme=http"),
        ("s3://b/a?region=x", ("c d?", "100%"), "s3://b/a/c%20d%3F/100%25?region=x"),
    ],
)
def test_what_lies_under_a_uri(uri, parts, joined):
    assert join(uri, *parts) == joined


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://bucket/a?regoin=x", "s3://bucket/a?regoin=x: no option 'regoin'; there are region,"),
        ("s3://bucket/a?region=x&anonymous=yes", "anonymous=yes must be true or false"),
        ("s3:///a?region=x", "s3:///a?region=x: no bucket in it"),
    ],
)
def test_an_s3_uri_that_is_wrong_is_named(uri, said):
    assert said in refused(resolve, uri)


def test_a_secret_in_a_uri_is_refused_and_not_shown():
    line = refused(resolve, "s3://KEY:SECRET@bucket/a?region=x")
    assert line.startswith("s3://bucket/a: no credentials in a URI")
    assert "KEY:" not in line and "SECRET@" not in line


def test_what_is_missing_or_empty_is_named(tmp_path):
    assert refused(list_files, f"{tmp_path}/no") == f"{tmp_path}/no: no such file or folder"
    assert refused(list_files, f"{tmp_path}/no/*.x") == f"{tmp_path}/no/*.x: no such file or folder"
    assert refused(list_files, str(tmp_path)) == f"{tmp_path}: holds no files"
    (tmp_path / "a.txt").write_text("a")
    assert refused(list_files, f"{tmp_path}/*.jpg") == f"{tmp_path}/*.jpg: holds no files"


def test_an_unknown_scheme_is_named():
    assert refused(resolve, "ftp://host/x").startswith("ftp://host/x: ")


def test_write_atomic_replaces_a_file_and_leaves_nothing_else(tmp_path):
    local = fs.LocalFileSystem()
    path = str(tmp_path / "new/folder/a.bin")
    for data in (b"old", b"newer"):
        write_atomic(local, path, data)
        assert read_bytes(local, path) == data
    assert [f.name for f in (tmp_path / "new/folder").iterdir()] == ["a.bin"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    local, path = fs.LocalFileSystem(), str(tmp_path / "a.bin")
    write_atomic(local, path, b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(local, path, b"newer")
    assert read_bytes(local, path) == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_is_not_written_over(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(fs.LocalFileSystem(), str(tmp_path / "a"), b"x")
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_other_stores_are_written_too(tmp_path):
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    write_atomic(store, "a.bin", b"x")
    assert read_bytes(store, "a.bin") == b"x"


def test_reading_what_is_not_there_gives_none(tmp_path):
    assert read_bytes(fs.LocalFileSystem(), str(tmp_path / "no")) is None
