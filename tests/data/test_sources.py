import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.sources import open_source
from mimray.errors import RunFailed
from tests.data.conftest import encode, noise, refused, write_parquet

pytestmark = pytest.mark.unit

PICTURES = [f"picture {i}".encode() for i in range(23)]  # a source does not look inside


@pytest.fixture
def parquet(tmp_path):
    write_parquet(tmp_path / "b.parquet", PICTURES[10:], group=4)
    write_parquet(tmp_path / "a.parquet", PICTURES[:10], group=3)
    return open_source(str(tmp_path))


def test_parquet_files_are_laid_end_to_end_in_order_of_path(parquet):
    assert parquet.kind == "Parquet" and len(parquet) == 23
    assert parquet.groups.tolist() == [3, 3, 3, 1, 4, 4, 4, 1]
    assert parquet.read(range(23)) == PICTURES


@given(rows=st.lists(st.integers(0, 22), max_size=40))
def test_parquet_reads_any_rows_in_the_order_asked_for(parquet, rows):
    assert parquet.read(np.array(rows, dtype=np.int64)) == [PICTURES[row] for row in rows]


@pytest.mark.parametrize("layout", ["struct", "binary", "large_binary"])
def test_parquet_layouts(tmp_path, layout):
    file = tmp_path / "x.parquet"
    write_parquet(file, PICTURES, group=7, layout=layout)
    source = open_source(str(file))
    assert source.read([22, 0, 7]) == [PICTURES[22], PICTURES[0], PICTURES[7]]
    assert source.name(8) == ("8.png" if layout == "struct" else "x.parquet row 8")


def test_a_row_without_a_picture_is_empty(tmp_path):
    write_parquet(tmp_path / "x.parquet", [b"a", None, b"c"], layout="binary")
    assert open_source(str(tmp_path)).read([0, 1, 2]) == [b"a", b"", b"c"]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"a", "path": "a"}, None, {"bytes": None, "path": "only/a/path.jpg"}]
    pq.write_table(pa.table({"image": pa.array(rows, struct)}), tmp_path / "x.parquet")
    assert open_source(str(tmp_path)).read([2, 1, 0]) == [b"", b"", b"a"]


def test_row_groups_without_rows_are_left_out(tmp_path):
    write_parquet(tmp_path / "a.parquet", [])
    write_parquet(tmp_path / "b.parquet", PICTURES[:2])
    source = open_source(str(tmp_path))
    assert source.groups.tolist() == [2] and source.read([1]) == [PICTURES[1]]


def test_old_row_groups_leave_the_cache(parquet, monkeypatch):
    monkeypatch.setattr("mimray.data.sources.parquet._CACHE_BYTES", 1)
    assert parquet.read(range(23)) == PICTURES
    assert len(parquet._cache) == 1


def test_a_source_travels_without_its_cache(parquet):
    parquet.read([0])
    again = pickle.loads(pickle.dumps(parquet))
    assert not again._cache and again.read([5]) == [PICTURES[5]]


def test_the_digest_tells_data_apart_and_not_folders(tmp_path):
    for folder, pictures in (("one", PICTURES), ("two", PICTURES), ("three", PICTURES[:-1])):
        write_parquet(tmp_path / folder / "a.parquet", pictures)
        (tmp_path / f"{folder}_files").mkdir()
        for i, data in enumerate(pictures):
            (tmp_path / f"{folder}_files/{i}.png").write_bytes(data)
    for kind in ("", "_files"):
        one, two, three = (
            open_source(f"{tmp_path}/{n}{kind}").digest for n in ("one", "two", "three")
        )
        assert one == two != three


SPLITS = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


@pytest.mark.parametrize("val", ["val-0.parquet", "validation-0.parquet", "test.parquet"])
def test_of_several_splits_one_is_taken(tmp_path, val):
    for number, name in enumerate([*SPLITS, val, "valuable.parquet"]):
        write_parquet(tmp_path / "data" / name, [f"{number}".encode()])
    assert open_source(str(tmp_path), "train").read([0, 1]) == [b"0", b"1"]
    assert len(open_source(str(tmp_path), "train")) == 2
    assert open_source(str(tmp_path), "val").read([0]) == [b"2"]
    assert len(open_source(str(tmp_path), "val")) == 1


def test_validation_is_preferred_to_test(tmp_path):
    for name in ("test-0.parquet", "validation-0.parquet", "train-0.parquet"):
        write_parquet(tmp_path / name, [name.encode()])
    assert open_source(str(tmp_path), "val").read([0]) == [b"validation-0.parquet"]


def test_training_files_are_not_taken_for_validation(tmp_path):
    write_parquet(tmp_path / SPLITS[0], PICTURES)
    assert "no val split in it (found: train)" in refused(open_source, str(tmp_path), "val")


def test_a_file_that_is_named_is_taken_whatever_its_name(tmp_path):
    write_parquet(tmp_path / SPLITS[0], PICTURES)
    assert len(open_source(f"{tmp_path}/{SPLITS[0]}", "val")) == len(PICTURES)


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 2)])
def test_picture_folders_of_splits_are_told_apart(tmp_path, split, count):
    for name in (
        "train/a/1.jpg",
        "train/b/2.jpg",
        "train/test-b/3.jpg",
        "val/a/1.jpg",
        "val/b/2.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(open_source(str(tmp_path), split)) == count


def test_a_picture_may_be_called_anything(tmp_path):
    for name in ("a.jpg", "test_shot.jpg", "train-0.jpg", "test/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(open_source(str(tmp_path), "train")) == 4


@pytest.mark.parametrize("split", ["train", "val"])
def test_files_whose_names_say_nothing_are_all_taken(tmp_path, split):
    for name in ("0000.parquet", "0001.parquet"):
        write_parquet(tmp_path / name, PICTURES[:3])
    assert len(open_source(str(tmp_path), split)) == 6


def test_a_pattern_chooses_files(tmp_path):
    for name in ("day-1.parquet", "day-2.parquet", "night-1.parquet"):
        write_parquet(tmp_path / name, [name.encode()])
    source = open_source(f"{tmp_path}/day-*.parquet")
    assert source.read([0, 1]) == [b"day-1.parquet", b"day-2.parquet"] and len(source) == 2


@pytest.fixture
def folder(tmp_path):
    names = ["cats/2.JPG", "cats/10.jpeg", "dogs/deep/x.PNG", "a.webp", "b.gif", "naïve [1].jpg"]
    for name in [*names, "labels.csv", ".thumbnail.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path, sorted(names)


def test_a_folder_is_its_pictures_whatever_the_case_and_the_depth(folder):
    path, names = folder
    source = open_source(str(path))
    assert source.kind == "folder of pictures" and len(source) == len(names)
    assert sorted(source.name(row) for row in range(len(names))) == names
    for row in range(len(names)):
        assert source.read([row]) == [source.name(row).encode()]


def test_a_pattern_of_pictures(folder):
    path, _ = folder
    source = open_source(f"{path}/*.jp*g")
    assert sorted(source.name(r) for r in range(len(source))) == ["cats/10.jpeg", "naïve [1].jpg"]


def test_one_picture_is_a_source(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(noise()))
    assert open_source(str(tmp_path / "a.png")).name(0) == "a.png"


def test_groups_sum_to_the_length(folder, parquet):
    for source in (open_source(str(folder[0])), parquet):
        assert source.groups.sum() == len(source) and source.groups.min() > 0
        assert source.groups.dtype == np.int64


def test_builtin_photos_are_there():
    train, val = (open_source(f"builtin:photos/{split}") for split in ("train", "val"))
    assert len(train) > 500 and len(val) > 64 and train.digest != val.digest
    line = refused(open_source, "builtin:photos/tset")
    assert "builtin:photos/tset" in line and "builtin:photos/train" in line


def test_what_is_no_source_is_named(tmp_path):
    assert "no such file or folder" in refused(open_source, f"{tmp_path}/no")
    assert f"{tmp_path}: holds no files" in refused(open_source, str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "Makefile").write_text("x")
    line = refused(open_source, str(tmp_path))
    assert line.startswith(f"{tmp_path}: neither Parquet files nor pictures") and "txt" in line


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and nothing more PAR1", b"x" * 5000])
def test_a_broken_parquet_file_is_named(tmp_path, data):
    file = tmp_path / "x.parquet"
    file.write_bytes(data)
    assert f"{file}: not a readable Parquet file" in refused(open_source, str(tmp_path))


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ({"picture": [b"x"]}, "picture"),
        ({"image": ["text"]}, "image is string"),
        ({"image": [{"bytes": b"x"}]}, "struct"),
        ({"image": [{"bytes": "text", "path": "p"}]}, "struct"),
    ],
)
def test_a_parquet_file_without_pictures_is_named(tmp_path, column, found):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({**column, "label": [1]}), file)
    line = refused(open_source, str(file))
    assert line.startswith(f"{file}: no column image: struct<bytes, path>") and found in line


def test_a_file_that_vanishes_stops_the_run_by_name(tmp_path):
    write_parquet(tmp_path / "x/a.parquet", PICTURES)
    (tmp_path / "a.png").write_bytes(b"a")
    for uri, file in ((tmp_path / "x", "x/a.parquet"), (tmp_path / "a.png", "a.png")):
        source = open_source(str(uri))
        (tmp_path / file).unlink()
        with pytest.raises(RunFailed, match=f"{tmp_path / file}: cannot be read any more"):
            source.read([0])
