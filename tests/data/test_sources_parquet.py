"""Parquet as a source: layouts, rows, names, the cache, and files that are none."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.node_cache import cache_key
from mimray.data.sources import open_source
from tests.data.conftest import PICTURES, refused, write_parquet

pytestmark = pytest.mark.unit


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


def test_a_footer_of_any_length_is_read(tmp_path):
    """One that is longer than what is fetched at first, and one of a file shorter than that."""
    for count in (1, 2000):
        write_parquet(tmp_path / "x.parquet", [b"x"] * count, group=1)
        source = open_source(str(tmp_path))
        assert len(source) == count and source.read([count - 1]) == [b"x"]


def test_names_of_a_group_are_read_once(tmp_path):
    write_parquet(tmp_path / "a.parquet", PICTURES)
    source = open_source(str(tmp_path))
    assert source.name(3) == "3.png"
    (tmp_path / "a.parquet").unlink()
    assert source.name(22) == "22.png"


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
