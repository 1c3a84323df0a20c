"""Labels and class names, of Parquet columns and of class folders."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.data.sources import open_source

pytestmark = pytest.mark.unit


def write_labels(path, labels, names=None):
    """A Parquet file with a `label` column, and class names as Hugging Face writes them."""
    table = pa.table({"image": pa.array([b"x"] * len(labels), pa.binary()), "label": labels})
    if names is not None:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path)


def test_parquet_labels_and_class_names(tmp_path):
    write_labels(tmp_path / "a.parquet", pa.array([1, None, 0], pa.int8()), ["cat", "dog"])
    write_labels(tmp_path / "b.parquet", pa.array([1], pa.uint64()), ["cat", "dog"])
    pq.write_table(pa.table({"image": pa.array([b"x", b"y"], pa.binary())}), tmp_path / "c.parquet")
    source = open_source(str(tmp_path))
    assert source.classes == ["cat", "dog"]
    assert source.labels().tolist() == [1, -1, 0, 1, -1, -1]
    assert source.labels().dtype == np.int64


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.5, 1.0], [[1], [2]]])
def test_a_label_column_that_is_no_number_is_none(tmp_path, labels):
    write_labels(tmp_path / "a.parquet", labels)
    source = open_source(str(tmp_path))
    assert source.labels() is None and source.classes is None


@pytest.mark.parametrize("names", [3, {"0": "cat"}, [1, 2]])
def test_odd_class_names_are_none(tmp_path, names):
    write_labels(tmp_path / "a.parquet", [0, 1], names)
    assert open_source(str(tmp_path)).classes is None


def place(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_class_folders_are_labels(tmp_path):
    place(tmp_path, "dogs/1.jpg", "cats/2.jpg", "dogs/deep/3.jpg")
    source = open_source(str(tmp_path))
    assert source.classes == ["cats", "dogs"] and source.labels().dtype == np.int64
    assert [source.name(row) for row in range(3)] == ["cats/2.jpg", "dogs/1.jpg", "dogs/deep/3.jpg"]
    assert source.labels().tolist() == [0, 1, 1]


def test_a_picture_outside_the_class_folders_leaves_no_classes(tmp_path):
    place(tmp_path, "dogs/1.jpg", "cats/2.jpg", "3.jpg")
    source = open_source(str(tmp_path))
    assert source.classes is None and source.labels() is None


def test_a_split_folder_is_no_class(tmp_path):
    place(tmp_path, "train/dogs/1.jpg", "train/cats/2.jpg", "val/dogs/3.jpg", "val/4.jpg")
    train = open_source(str(tmp_path), "train")
    assert train.classes == ["cats", "dogs"] and train.labels().tolist() == [0, 1]
    assert open_source(str(tmp_path / "train")).classes == ["cats", "dogs"]
    assert open_source(str(tmp_path), "val").classes is None
