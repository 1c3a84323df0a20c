import json
import os
import pickle
import pickletools
import platform
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from mimray.data.node_cache import NodeCache, cache_key
from mimray.data.prepare import Plan
from mimray.data.sources import open_source
from mimray.data.sources.folder import FolderSource
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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMRAY_CACHE", str(tmp_path / "cache"))
    cache = NodeCache(limit=2**20)
    yield cache
    cache.clear()


@pytest.mark.parametrize("layout", ["struct", "binary", "large_binary"])
def test_a_row_group_is_read_once_with_a_cache(tmp_path, cache, layout):
    pictures = [*PICTURES[:5], None, *PICTURES[6:]]
    write_parquet(tmp_path / "x/a.parquet", pictures, group=4, layout=layout)
    source = open_source(str(tmp_path / "x"))
    source.cache = cache
    wanted = [b"" if data is None else data for data in pictures]
    assert source.read(range(23)) == wanted
    begin = cache_key(str(tmp_path / "x"), str(tmp_path / "x"), source.digest)
    assert {p.name for p in cache.folder.glob("[!.]*")} == {f"{begin}-{g}" for g in range(6)}
    (tmp_path / "x/a.parquet").unlink()
    again = pickle.loads(pickle.dumps(source))  # as a data task gets it
    assert again.read([22, 5, 3]) == [wanted[22], b"", wanted[3]]


def test_two_sources_share_a_cache(tmp_path, cache):
    """Equal in every name and size, and so in all that the footers say."""
    for name in ("a", "b"):
        write_parquet(tmp_path / name / "x.parquet", [name.encode() * 9000], layout="binary")
    one, two = (open_source(f"{tmp_path}/{name}") for name in ("a", "b"))
    assert one.digest == two.digest
    one.cache = two.cache = cache
    assert one.read([0]) == [b"a" * 9000] and two.read([0]) == [b"b" * 9000]


def test_digests_stay_what_they_were(tmp_path):
    """Runs and manifests that were written hold them."""
    assert open_source("builtin:photos/train").digest == "e561863d594fe670"
    assert open_source("builtin:photos/val").digest == "2dcc6a0de49c1628"
    for name, data in (("cats/1.jpg", b"ab"), ("dogs/deep/2.png", b"abc")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(data)
    assert open_source(str(tmp_path)).digest == "48c170169c48cbc5"


def test_parts_are_the_files_with_their_bytes_and_rows(tmp_path, parquet):
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.parquet", "b.parquet")}
    assert parquet.parts() == [
        ("a.parquet", sizes["a.parquet"], 10),
        ("b.parquet", sizes["b.parquet"], 13),
    ]
    (tmp_path / "f/x").mkdir(parents=True)
    (tmp_path / "f/x/1.jpg").write_bytes(b"abc")
    assert open_source(str(tmp_path / "f")).parts() == [("x/1.jpg", 3, 1)]


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


def test_the_digest_tells_parquet_of_equal_sizes_apart(tmp_path):
    for folder, names in (("one", "ab"), ("two", "ab"), ("three", "ba")):
        (tmp_path / folder).mkdir()
        rows = [{"bytes": name.encode() * 20, "path": name} for name in names]
        table = pa.table({"image": rows[:1] + rows[1:], "label": [ord(n) for n in names]})
        pq.write_table(table, tmp_path / folder / "a.parquet", row_group_size=1)
    one, two, three = (open_source(f"{tmp_path}/{name}") for name in ("one", "two", "three"))
    assert one.parts() == three.parts() and (one.groups == three.groups).all()
    assert one.digest == two.digest != three.digest


def test_a_footer_of_any_length_is_read(tmp_path):
    """One that is longer than what is fetched at first, and one of a file shorter than that."""
    for count in (1, 2000):
        write_parquet(tmp_path / "x.parquet", [b"x"] * count, group=1)
        source = open_source(str(tmp_path))
        assert len(source) == count and source.read([count - 1]) == [b"x"]


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


def shards(folder, split, numbers, count, rest=".parquet"):
    for number in numbers:
        write_parquet(folder / f"{split}-{number:05d}-of-{count:05d}{rest}", [b"x"])


def test_shards_that_are_missing_are_named(tmp_path):
    shards(tmp_path, "train", [0, 2], 5)
    shards(tmp_path, "val", [0], 1)
    line = refused(open_source, str(tmp_path))
    assert line.startswith(
        f"{tmp_path}: train-00001-of-00005.parquet is missing (3 file(s) in all)"
    )
    assert refused(open_source, f"{tmp_path}/train-*.parquet").startswith(f"{tmp_path}/train-*")
    assert len(open_source(str(tmp_path), "val")) == 1
    shards(tmp_path, "train", [1, 3, 4], 5)
    assert len(open_source(str(tmp_path))) == 5
    (tmp_path / "train-00004-of-00005.parquet").unlink()
    assert "train-00004-of-00005.parquet is missing (1 " in refused(open_source, str(tmp_path))


def test_a_part_of_the_shards_may_be_asked_for(tmp_path):
    shards(tmp_path, "train", [0, 1, 3], 9)
    assert len(open_source(f"{tmp_path}/train-0000[01]-of-00009.parquet")) == 2
    assert len(open_source(f"{tmp_path}/train-00003-of-00009.parquet")) == 1
    assert "train-00002-of" in refused(open_source, f"{tmp_path}/train-0000[0-3]-of-*.parquet")


def test_odd_numbers_of_shards(tmp_path):
    shards(tmp_path / "from_1", "train", [1, 2, 3], 3)
    assert len(open_source(str(tmp_path / "from_1"))) == 3
    shards(tmp_path / "hashed", "train", [0], 2, "-0f3a.parquet")
    shards(tmp_path / "hashed", "train", [1], 2, "-77bc.parquet")
    assert len(open_source(str(tmp_path / "hashed"))) == 2
    shards(tmp_path / "two/a", "train", [0], 1)
    shards(tmp_path / "two/b", "train", [1], 2)
    assert f"{tmp_path}/two: b/train-00000-of-00002" in refused(open_source, str(tmp_path / "two"))
    write_parquet(tmp_path / "two/b/train-more.parquet", [b"x"])  # so numbers tell nothing
    assert len(open_source(str(tmp_path / "two"))) == 3


def test_an_unfinished_preparation_is_to_be_gone_on_with(tmp_path):
    plan = Plan("d", 3, "train", None, None, 1, 1, None, None)
    (tmp_path / ".prepare").mkdir()
    (tmp_path / ".prepare/train.plan.json").write_text(json.dumps(asdict(plan)))
    shards(tmp_path, "val", [0], 1)
    for shard in range(3):
        shards(tmp_path, "train", [shard], 3)
        line = refused(open_source, str(tmp_path))
        assert line.startswith(
            f"{tmp_path}: its preparation is not finished: {plan.name(shard)} is"
        )
        assert f"({3 - shard} of 3 shards left); `mimray data prepare`" in line
        assert len(open_source(f"{tmp_path}/{plan.name(shard)}")) == 1  # named by a person
        assert len(open_source(str(tmp_path), "val")) == 1
        (tmp_path / f".prepare/{plan.name(shard)}.json").write_text("{}")
    assert len(open_source(str(tmp_path))) == 3
    (tmp_path / ".prepare/train.plan.json").write_text("{}")  # nobody's plan
    assert len(open_source(str(tmp_path))) == 3


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


@pytest.mark.parametrize(
    "name",
    [
        "imagenet-train-000000.parquet",
        "imagenet1k.train.0001.parquet",
        "my_test_set-train-00000-of-00001.parquet",
        "train-for-test-0.parquet",
    ],
)
def test_a_split_may_stand_inside_a_file_name(tmp_path, name):
    write_parquet(tmp_path / name, [b"t"])
    write_parquet(tmp_path / "imagenet-validation-000000.parquet", [b"v"])
    write_parquet(tmp_path / "imagenet-trainable.parquet", [b"x"])
    assert open_source(str(tmp_path), "train").read(range(1)) == [b"t"]
    assert len(open_source(str(tmp_path), "train")) == len(open_source(str(tmp_path), "val")) == 1


def test_a_picture_may_be_called_anything(tmp_path):
    for name in ("a.jpg", "test_shot.jpg", "train-0.jpg", "test/b.jpg", "my-val-shot.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(open_source(str(tmp_path), "train")) == 5


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


def test_a_folder_of_many_pictures_is_small_to_send(tmp_path):
    """Arrays and one string of bytes, not an object a picture."""
    local = fs.LocalFileSystem()
    (tmp_path / "a.jpg").write_bytes(b"x")
    [info] = local.get_file_info([str(tmp_path / "a.jpg")])
    many = FolderSource(str(tmp_path), local, str(tmp_path), [info] * 20_000)
    opcodes = sum(1 for _ in pickletools.genops(pickle.dumps(many)))
    assert opcodes < 1000 and len(many) == 20_000 and many.name(19_999) == "a.jpg"


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


def test_names_of_a_group_are_read_once(tmp_path):
    write_parquet(tmp_path / "a.parquet", PICTURES)
    source = open_source(str(tmp_path))
    assert source.name(3) == "3.png"
    (tmp_path / "a.parquet").unlink()
    assert source.name(22) == "22.png"
