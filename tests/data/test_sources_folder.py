"""Folders of pictures as a source."""

import pickle
import pickletools

import pytest
from pyarrow import fs

from mimray.data.sources import open_source
from mimray.data.sources.folder import FolderSource
from tests.data.conftest import encode, noise

pytestmark = pytest.mark.unit


def test_a_folder_is_its_pictures_whatever_the_case_and_the_depth(picture_folder):
    path, names = picture_folder
    source = open_source(str(path))
    assert source.kind == "folder of pictures" and len(source) == len(names)
    assert sorted(source.name(row) for row in range(len(names))) == names
    for row in range(len(names)):
        assert source.read([row]) == [source.name(row).encode()]


def test_a_folder_of_many_pictures_is_small_to_send(tmp_path):
    """Arrays and one string of bytes, not an object a picture."""
    local = fs.LocalFileSystem()
    (tmp_path / "a.jpg").write_bytes(b"x")
    [info] = local.get_file_info([str(tmp_path / "a.jpg")])
    many = FolderSource(str(tmp_path), local, str(tmp_path), [info] * 20_000)
    opcodes = sum(1 for _ in pickletools.genops(pickle.dumps(many)))
    assert opcodes < 1000 and len(many) == 20_000 and many.name(19_999) == "a.jpg"


def test_a_pattern_of_pictures(picture_folder):
    path, _ = picture_folder
    source = open_source(f"{path}/*.jp*g")
    assert sorted(source.name(r) for r in range(len(source))) == ["cats/10.jpeg", "naïve [1].jpg"]


def test_one_picture_is_a_source(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(noise()))
    assert open_source(str(tmp_path / "a.png")).name(0) == "a.png"
