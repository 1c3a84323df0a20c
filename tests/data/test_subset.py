import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.rowset import RowSet
from mimray.data.sources import open_source
from mimray.data.subset import (
    choose,
    digest,
    read_classes,
    read_manifest,
    select,
    write_manifest,
)
from mimray.errors import UserError
from tests.data.conftest import encode, noise, refused

pytestmark = pytest.mark.unit

PICTURE = encode(noise())


@pytest.fixture
def photos(tmp_path):
    """A folder of 90 pictures: 60 ants, 20 bees, 10 cats."""
    for name, count in (("ant", 60), ("bee", 20), ("cat", 10)):
        for k in range(count):
            file = tmp_path / "photos" / name / f"{k:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(PICTURE)
    return open_source(str(tmp_path / "photos"))


class Many:
    """A source of so many rows, which nobody reads."""

    def __init__(self, rows, labels=None):
        self.rows, self._labels, self.uri = rows, labels, "many"
        self.classes = None

    def __len__(self):
        return self.rows

    def labels(self):
        return self._labels


@given(st.integers(1, 2000), st.lists(st.floats(0.001, 1.0), min_size=2, max_size=4), st.booleans())
def test_fractions_nest_and_have_their_size(rows, fractions, stratified):
    source = Many(rows, np.arange(rows) % 7)
    sets = [choose(source, f, seed=3, stratified=stratified).rows() for f in sorted(fractions)]
    for small, large in itertools.pairwise(sets):
        assert set(small.tolist()) <= set(large.tolist())
    for fraction, chosen in zip(sorted(fractions), sets, strict=True):
        assert abs(len(chosen) - fraction * rows) <= (7 if stratified else 0.5)  # a picture a class
        if stratified:  # and every class has one
            assert set(chosen % 7) == set(range(min(rows, 7)))


def test_a_stratified_share_has_the_share_of_every_class(photos):
    labels = photos.labels()[choose(photos, 0.5, stratified=True).rows()]
    assert np.bincount(labels).tolist() == [30, 10, 5]


def test_classes_by_name_and_a_share_of_them(photos):
    labels = photos.labels()
    assert np.bincount(labels[choose(photos, classes=["cat", "ant"]).rows()]).tolist() == [
        60,
        0,
        10,
    ]
    assert len(choose(photos, 0.1, classes=["cat", "ant"])) == 7


def test_another_seed_is_another_set():
    a, b = (choose(Many(1000), 0.1, seed).rows() for seed in (0, 1))
    assert len(a) == len(b) == 100 and len(set(a.tolist()) & set(b.tolist())) < 30


def test_a_manifest_gives_its_rows_back(photos, tmp_path):
    rows = choose(photos, 0.3, seed=5)
    path = str(tmp_path / "thirty.parquet")
    write_manifest(path, photos, rows, {"fraction": 0.3, "seed": 5})
    assert np.array_equal(read_manifest(path, photos).rows(), rows.rows())
    table = pq.read_table(path)
    assert table.column("row").to_pylist() == rows.rows().tolist()
    about = json.loads(table.schema.metadata[b"mimray"])
    assert about["source"]["digest"] == photos.digest
    assert about["subset"] == {
        "rows": 27, "digest": digest(rows), "fraction": 0.3, "seed": 5,
    }  # fmt: skip


def test_a_share_in_a_recipe_is_the_manifest_s_rows(photos, tmp_path):
    path = str(tmp_path / "ten.parquet")
    write_manifest(path, photos, choose(photos, 0.1), {})
    assert digest(select("10%", photos)) == digest(select(path, photos))
    assert digest(select("0.1", photos)) == digest(select(path, photos))


@pytest.mark.parametrize("change", ["gone", "new", "larger"])
def test_a_file_that_changed_since_is_named(photos, tmp_path, change):
    path = str(tmp_path / "ten.parquet")
    write_manifest(path, photos, choose(photos, 0.1), {})
    victim = tmp_path / "photos" / "bee" / "07.png"
    if change == "gone":
        victim.unlink()
    elif change == "larger":
        victim.write_bytes(PICTURE + b"0")
    else:
        (victim.parent / "99.png").write_bytes(PICTURE)
    line = refused(read_manifest, path, open_source(str(tmp_path / "photos")))
    name, words = {
        "gone": ("bee/07.png", "is gone"),
        "larger": ("bee/07.png", f"{len(PICTURE)} bytes, and has 1, {len(PICTURE) + 1}"),
        "new": ("bee/99.png", "is new"),
    }[change]
    assert f"{name} " in line and words in line and "ten.parquet" in line


def test_a_changed_shard_of_many_is_named(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for shard in range(3):
        (tmp_path / "d").mkdir(exist_ok=True)
        images = pa.array([{"bytes": PICTURE, "path": f"{k}.png"} for k in range(5)], kind)
        pq.write_table(pa.table({"image": images}), tmp_path / "d" / f"train-{shard}.parquet")
    source = open_source(str(tmp_path / "d"))
    path = str(tmp_path / "m.parquet")
    write_manifest(path, source, choose(source, 0.5), {})
    pq.write_table(pa.table({"image": images[:4]}), tmp_path / "d" / "train-1.parquet")
    line = refused(read_manifest, path, open_source(str(tmp_path / "d")))
    assert "train-1.parquet had 5 picture(s)" in line


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("0%", "above 0"),
        ("120%", "at most all"),
        ("10", "write it like 10%"),
        ("ten%", "a share is written like 10%"),
        ("nowhere.parquet", "no such file"),
    ],
)
def test_a_subset_that_is_none_is_refused_in_a_line(photos, setting, words):
    line = refused(select, setting, photos)
    assert f"data.subset={setting}" in line and words in line


def test_what_is_no_manifest_is_refused(photos, tmp_path):
    (tmp_path / "text").write_text("hello")
    pq.write_table(pa.table({"row": [1]}), tmp_path / "plain.parquet")
    for name in ("text", "plain.parquet"):
        assert "not a manifest" in refused(read_manifest, str(tmp_path / name), photos)


def test_a_manifest_with_flipped_bytes_is_refused_in_a_line(tmp_path):
    """Whatever byte it is: no trace, and no other rows."""
    source = Many(3000)
    source.digest, source.parts = "d", lambda: []
    path = tmp_path / "m.parquet"
    rows = choose(source, 0.5)
    write_manifest(str(path), source, rows, {})
    whole = path.read_bytes()
    refusals = 0
    for place in range(4, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        try:
            assert digest(read_manifest(str(path), source)) == digest(rows)
        except UserError as error:
            refusals += 1
            assert len(str(error).splitlines()) == 1
    assert refusals > 20


def test_class_lists(tmp_path, photos):
    file = tmp_path / "classes.txt"
    file.write_text("# two\nant tiny\n\nbee # busy\nant\n")
    assert read_classes(str(file)) == ["ant", "bee"]
    file.write_text("# none\n")
    assert "names no class" in refused(read_classes, str(file))
    assert "cannot be read" in refused(read_classes, str(tmp_path / "gone.txt"))
    line = refused(lambda: choose(photos, classes=["bea"]))
    assert "no class 'bea'" in line and "bee" in line


def test_labels_are_needed_for_strata_and_classes():
    for settings in ({"stratified": True}, {"classes": ["a"]}):
        assert "has no labels" in refused(lambda s=settings: choose(Many(10), 0.5, **s))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_share_is_above_0_and_at_most_1(fraction):
    assert "is none; write it" in refused(choose, Many(10), fraction)


def test_a_digest_is_of_the_rows():
    a = RowSet.of(np.array([1, 5]), 10)
    assert digest(a) == digest(RowSet.of(np.array([5, 1]), 10))
    assert digest(a) != digest(RowSet.of(np.array([1, 6]), 10))
