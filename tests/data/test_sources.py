"""What every source has: a digest, parts, groups; and what is no source."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.data.sources import open_source
from tests.data.conftest import PICTURES, refused, write_parquet

pytestmark = pytest.mark.unit


def test_digests_stay_what_they_were(tmp_path):
    """Runs and manifests that were written hold them."""
    assert open_source("builtin:photos/train").digest == "42c57981a78fb0dc"
    assert open_source("builtin:photos/val").digest == "a10fcef1d3137513"
    for name, data in (("cats/1.jpg", b"ab"), ("dogs/deep/2.png", b"abc")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(data)
    assert open_source(str(tmp_path)).digest == "48c170169c48cbc5"


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


def test_parts_are_the_files_with_their_bytes_and_rows(tmp_path, parquet):
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.parquet", "b.parquet")}
    assert parquet.parts() == [
        ("a.parquet", sizes["a.parquet"], 10),
        ("b.parquet", sizes["b.parquet"], 13),
    ]
    (tmp_path / "f/x").mkdir(parents=True)
    (tmp_path / "f/x/1.jpg").write_bytes(b"abc")
    assert open_source(str(tmp_path / "f")).parts() == [("x/1.jpg", 3, 1)]


def test_groups_sum_to_the_length(picture_folder, parquet):
    for source in (open_source(str(picture_folder[0])), parquet):
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
