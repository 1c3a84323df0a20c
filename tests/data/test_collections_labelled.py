"""Any labelled folder or Parquet file, and whether two splits fit together."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.data.collections import check_pair, check_split, name_of, open_pictures
from tests.data.collection_fixtures import put
from tests.data.conftest import refused

pytestmark = pytest.mark.unit


def write(path, labels, names=None):
    pictures = [bytes([i]) for i in range(len(labels))]
    table = pa.table({"image": pa.array(pictures, pa.binary()), "label": labels})
    if names:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.fixture
def folder(tmp_path):
    """train/ and val/ of three classes."""
    for label, name in enumerate(("cat", "dog", "eel")):
        for index in range(3):
            split = "train" if index else "val"
            put(tmp_path / split / name / f"{index}.jpg", label, index)
    return tmp_path


def pair(train, test, classes=None):
    return check_pair(open_pictures(train, "train"), open_pictures(test, "val"), classes)


def checked(uri, split="train", classes=None):
    return check_split(open_pictures(str(uri), split), classes)


def test_an_image_folder(folder):
    train, test = (open_pictures(str(folder), split) for split in ("train", "val"))
    assert (len(train), len(test)) == (6, 3) and check_pair(train, test, 3) == 3
    assert check_split(train).tolist() == [2, 2, 2]


@pytest.mark.parametrize("names", [None, ["cat", "dog", "eel"]])
def test_parquet(tmp_path, names):
    write(tmp_path / "train-0.parquet", [0, 1, 2, 2], names)
    write(tmp_path / "test-0.parquet", [2, 1, 0], names)
    assert pair(str(tmp_path), str(tmp_path)) == 3


def test_the_photos_that_come_with_mimray():
    assert pair("builtin:photos/train", "builtin:photos/val") == 10


def test_no_labels(tmp_path):
    put(tmp_path / "1.jpg", 0, 0)
    assert "has no labels" in refused(checked, tmp_path)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([0, None, 1], None, "label -1 of"),
        ([0, -3, 1], None, "label -3 of"),
        ([0, 1, 5], 3, "label 5 of x.parquet row 2 is not one of 0 to 2"),
        ([0, 2, 2], None, "no pictures of class 1 (1 of 3"),
        ([0, 2], None, "labels go up to 2, and there are 2 pictures"),
        ([0, 10**12], None, f"labels go up to {10**12}, and there are 2 pictures; number the"),
        ([0, 2**63 - 1], None, f"labels go up to {2**63 - 1}, and there are 2 pictures"),
        ([0, 1], 4, "no pictures of class 2 (2 of 4"),
        ([], None, "holds no pictures"),
    ],
)
def test_labels_that_make_no_classification(tmp_path, labels, classes, expected):
    write(tmp_path / "x.parquet", pa.array(labels, pa.int64()))
    assert expected in refused(checked, tmp_path / "x.parquet", "train", classes)


def test_another_number_of_classes_than_a_head_has(folder):
    assert "3 classes instead of 10" in refused(checked, folder, "train", 10)
    assert "3 classes instead of 2" in refused(pair, str(folder), str(folder), 2)


def test_a_name_without_pictures(tmp_path):
    write(tmp_path / "x.parquet", [0, 1], ["cat", "dog", "eel"])
    assert "class 'eel'" in refused(checked, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("split", "seen", "lacks"), [("train", "test", "train"), ("val", "train", "test")]
)
def test_a_class_folder_missing_in_a_split(folder, split, seen, lacks):
    """Its folders' numbers would not mean the same in both."""
    for file in (folder / split / "dog").iterdir():
        file.unlink()
    line = refused(pair, str(folder), str(folder))
    assert f"class 'dog' is among the pictures to {seen} on (" in line
    assert f"not among those to {lacks} on (" in line


def test_a_number_missing_in_a_split(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 1, 2])
    write(tmp_path / "test-0.parquet", [0, 1])
    assert "no pictures of class 2" in refused(pair, str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("where", ["train", "test"])
def test_a_number_far_beyond_all_others(tmp_path, where):
    """Counters up to it would not fit into memory."""
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", [0, 1, 2**62 if split == where else 1])
    line = refused(pair, str(tmp_path), str(tmp_path))
    assert f"labels go up to {2**62}" in line and "from 0 without gaps" in line


def test_classes_in_another_order(tmp_path):
    write(tmp_path / "a.parquet", [0, 1], ["cat", "dog"])
    write(tmp_path / "b.parquet", [0, 1, 1], ["dog", "cat"])
    line = refused(pair, str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"))
    assert "another order" in line


def test_the_same_pictures_in_both_splits(tmp_path):
    """A folder without splits gives all of its pictures to both."""
    for label, name in enumerate(("cat", "dog")):
        put(tmp_path / name / "1.jpg", label, 1)
    assert "the same pictures" in refused(pair, str(tmp_path), str(tmp_path))
    assert np.array_equal(checked(tmp_path, "val"), [1, 1])


def test_a_single_class(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 0])
    write(tmp_path / "test-0.parquet", [0])
    assert "has one class" in refused(pair, str(tmp_path), str(tmp_path))
    assert "has one class" in refused(checked, tmp_path)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("collection:dtd:/data/sets", "dtd"),
        ("builtin:photos/train", "photos"),
        ("/data/birds/", "birds"),
        ("/data/birds/train", "birds"),
        ("/data/birds/train-*.parquet", "birds"),
        ("/data/two words=1", "two-words-1"),
        ("s3://bucket/birds/val?endpoint_override=http://host:1", "birds"),
        ("/train", "train"),
        ("/", "set"),
    ],
)
def test_pictures_have_a_name(uri, name):
    """MLflow takes no other letters in the names of metrics."""
    assert name_of(uri) == name
