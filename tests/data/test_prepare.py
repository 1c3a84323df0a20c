"""Shards in process: what goes into them, and what a destination accepts."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimray.data.decode import Unreadable, decode
from mimray.data.exif import orientation
from mimray.data.files import list_files, read_bytes
from mimray.data.prepare import Destination, Plan, default_rows_per_shard, shuffle_window
from mimray.data.shards import Shard, shrink, write_shard
from mimray.data.sources import open_source
from mimray.errors import RunFailed
from tests.data import test_s3
from tests.data.conftest import encode, noise, refused, write_parquet

pytestmark = pytest.mark.unit
server = test_s3.server

CLASSES = ["cat", "dog"]
LARGE, SMALL = noise(40, 60), noise(20, 30, seed=1)


@pytest.fixture
def folder(tmp_path):
    """Four pictures of two classes, two of them larger than 24 px, and two that cannot be read."""
    for name, data in {
        "cat/a.jpg": encode(LARGE, "JPEG"),
        "cat/b.png": encode(SMALL),
        "cat/torn.jpg": encode(LARGE, "JPEG")[:900],
        "dog/c.webp": encode(LARGE, "WEBP", lossless=True),
        "dog/d.jpg": encode(SMALL, "JPEG"),
        "dog/words.jpg": b"<html>404</html>",
    }.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    return tmp_path / "photos"


def plan_for(source, **settings):
    given = {
        "source_digest": source.digest,
        "rows": len(source),
        "split": "train",
        "shorter_side": None,
        "quality": None,
        "rows_per_shard": 4,
        "row_group_size": 2,
        "shuffle": None,
        "window": None,
    }
    return Plan(**given | settings)


def write_all(source, to, **settings):
    """Every shard of a plan, one after another; returns the destination and its notes."""
    destination = Destination(str(to), plan_for(source, **settings))
    plan, labels = destination.plan, source.labels()
    lock = destination.claim()
    for number in range(len(plan)):
        rows = plan.rows_of(number, plan.order(source.groups))
        shard = Shard(number, rows, None if labels is None else labels[rows], source.classes)
        assert list(write_shard(source, destination, shard))[-1] == len(rows)
    if lock is not None:
        lock.close()
    return destination, destination.complete()


def rows_of(folder):
    """All rows of the shards in a folder, in order."""
    return [row for f in sorted(folder.glob("*.parquet")) for row in pq.read_table(f).to_pylist()]


class TestShrink:
    @given(height=st.integers(8, 90), width=st.integers(8, 90), shorter_side=st.integers(8, 64))
    def test_only_larger_pictures_change_and_keep_their_shape(self, height, width, shorter_side):
        data = encode(noise(height, width))
        out = shrink(data, shorter_side, 90)
        if min(height, width) <= shorter_side:
            assert out == data
            return
        h, w, _ = decode(out).shape
        assert min(h, w) == shorter_side
        assert abs(h / height - w / width) * max(height, width) <= 1

    def test_it_is_pillows_lanczos_and_jpeg(self):
        scaled = Image.fromarray(LARGE).resize((36, 24), Image.Resampling.LANCZOS)
        assert shrink(encode(LARGE), 24, 90) == encode(scaled, "JPEG", quality=90)
        assert len(shrink(encode(LARGE), 24, 30)) < len(shrink(encode(LARGE), 24, 90))

    def test_a_cameras_note_stays_and_is_not_applied(self):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "a camera"
        out = shrink(encode(LARGE, "JPEG", exif=exif), 24, 90)
        assert orientation(out) == 6
        assert decode(out).shape == (24, 36, 3)
        assert b"a camera" not in out

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_grey_and_cmyk_follow_the_decoder(self, mode):
        data = encode(Image.fromarray(LARGE).convert(mode), "JPEG", quality=95)
        scaled = Image.fromarray(decode(data)).resize((36, 24), Image.Resampling.LANCZOS)
        assert shrink(data, 24, 90) == encode(scaled, "JPEG", quality=90)

    def test_what_a_strict_decoder_rejects_is_not_made_sound(self):
        with pytest.raises(Unreadable):
            shrink(encode(LARGE, "JPEG")[:900], 24, 90)

    def test_a_strip_too_long_for_a_jpeg_stays_what_it_is(self):
        data = encode(np.zeros((20, 120_000, 3), dtype=np.uint8))
        assert shrink(data, 16, 90) == data


class TestShards:
    def test_bytes_pass_untouched_in_the_hugging_face_layout(self, folder, tmp_path):
        source = open_source(str(folder))
        _, notes = write_all(source, tmp_path / "out")
        rows = rows_of(tmp_path / "out")
        assert [r["image"]["path"] for r in rows] == [source.name(i) for i in range(6)]
        assert [r["image"]["bytes"] for r in rows] == source.read(np.arange(6))
        assert [r["label"] for r in rows] == [0, 0, 0, 1, 1, 1]
        file = pq.ParquetFile(tmp_path / "out/train-00000-of-00002.parquet")
        features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
        assert features["label"] == {"names": CLASSES, "_type": "ClassLabel"}
        assert file.metadata.num_row_groups == 2
        column = file.metadata.row_group(0).column(0)
        assert column.compression == "UNCOMPRESSED" and not column.has_dictionary_page
        assert {n["resized"] for n in notes.values()} == {0}

    def test_resized_shards_leave_out_what_cannot_be_read_and_name_it(self, folder, tmp_path):
        source = open_source(str(folder))
        _, notes = write_all(source, tmp_path / "out", shorter_side=24, quality=90)
        rows = rows_of(tmp_path / "out")
        assert [r["image"]["path"] for r in rows] == ["cat/a.jpg", "cat/b.png", "dog/c.webp",
                                                      "dog/d.jpg"]  # fmt: skip
        assert [min(decode(r["image"]["bytes"]).shape[:2]) for r in rows] == [24, 20, 24, 20]
        assert [r["label"] for r in rows] == [0, 0, 1, 1]
        left_out = [one for shard in sorted(notes) for one in notes[shard]["left_out"]]
        assert left_out == [
            {"row": 2, "name": "cat/torn.jpg", "reason": "damaged"},
            {"row": 5, "name": "dog/words.jpg", "reason": "not a picture"},
        ]
        assert sum(n["rows"] for n in notes.values()) == 4
        assert sum(n["resized"] for n in notes.values()) == 2

    def test_the_result_is_a_source_with_labels_and_classes(self, folder, tmp_path):
        write_all(open_source(str(folder)), tmp_path / "out", shorter_side=24, quality=90)
        result = open_source(str(tmp_path / "out"))
        assert result.classes == CLASSES
        assert result.labels().tolist() == [0, 0, 1, 1]
        assert result.groups.tolist() == [2, 1, 1]  # two shards

    def test_the_same_plan_gives_the_same_bytes(self, folder, tmp_path):
        source = open_source(str(folder))
        for name in ("one", "two"):
            write_all(source, tmp_path / name, shorter_side=24, quality=90, shuffle=3, window=4)
        files = sorted(f.name for f in (tmp_path / "one").glob("*.parquet"))
        assert len(files) == 2
        for name in files:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def test_shuffled_rows_lie_as_the_plan_says(self, tmp_path):
        write_parquet(tmp_path / "in.parquet", [encode(noise(seed=i)) for i in range(40)], group=5)
        source = open_source(str(tmp_path / "in.parquet"))
        destination, _ = write_all(
            source, tmp_path / "out", shuffle=1, window=30, rows_per_shard=15
        )
        plan = destination.plan
        order = plan.order(source.groups)
        planned = np.concatenate([plan.rows_of(s, order) for s in range(len(plan))])
        rows = rows_of(tmp_path / "out")
        assert [r["label"] for r in rows] == planned.tolist() != sorted(planned)
        assert [r["image"]["bytes"] for r in rows] == source.read(planned)

    def test_a_source_without_labels_gives_none(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.png").write_bytes(encode(SMALL))
        write_all(open_source(str(tmp_path / "in")), tmp_path / "out")
        assert rows_of(tmp_path / "out") == [{"image": {"bytes": encode(SMALL), "path": "a.png"}}]

    def test_a_row_group_ends_at_its_bytes_too(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("mimray.data.shards._GROUP_BYTES", 1)
        write_all(open_source(str(folder)), tmp_path / "out")
        assert open_source(str(tmp_path / "out")).groups.tolist() == [1] * 6

    def test_a_source_that_vanishes_leaves_nothing_half_written(self, folder, tmp_path):
        source = open_source(str(folder))
        (folder / "dog/d.jpg").unlink()
        with pytest.raises(RunFailed, match=r"d\.jpg"):
            write_all(source, tmp_path / "out")
        out = tmp_path / "out"
        left = sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file())
        assert left == [
            ".prepare/lock",
            ".prepare/train-00000-of-00002.parquet.json",
            ".prepare/train.plan.json",
            "train-00000-of-00002.parquet",
        ]


def test_of_the_hard_pictures_the_bad_are_left_out(shared, tmp_path):
    cases = json.loads((shared / "data/hard/manifest.json").read_text())
    source = open_source(str(shared / "data/hard"))
    _, notes = write_all(source, tmp_path / "out", shorter_side=64, quality=90, rows_per_shard=30)
    left_out = {one["name"]: one["reason"] for one in notes[0]["left_out"]}
    assert left_out == {c["file"]: c["reason"] for c in cases if c["expected"] != "keep"}
    kept = {row["image"]["path"]: row["image"]["bytes"] for row in rows_of(tmp_path / "out")}
    assert sorted(kept) == sorted(c["file"] for c in cases if c["expected"] == "keep")
    assert {min(decode(data).shape[:2]) for data in kept.values()} == {64}


class TestStore:
    @pytest.fixture
    def uri(self, server, monkeypatch, tmp_path):
        for name, value in test_s3.CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        return f"s3://bucket/{tmp_path.name}?endpoint_override={server}"

    def test_shards_in_a_store_are_those_on_disk(self, uri, folder, tmp_path):
        source = open_source(str(folder))
        settings = {"shorter_side": 24, "quality": 90}
        lock = Destination(uri, plan_for(source, **settings)).claim()
        assert lock is None
        destination, notes = write_all(source, uri, **settings)
        _, expected = write_all(source, tmp_path / "out", **settings)
        assert notes == expected
        for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
            stored = read_bytes(destination.filesystem, f"{destination.path}/{name}")
            assert stored == (tmp_path / "out" / name).read_bytes()
        assert open_source(uri).digest == open_source(str(tmp_path / "out")).digest
        report = destination.write_report(b"{}")
        assert report == uri.replace("?", "/.prepare/train-report.json?")
        other = Destination(uri, plan_for(source, shorter_side=24, quality=80))
        assert "--quality was 90 and is 80" in refused(other.claim)

    def test_a_source_that_vanishes_leaves_no_torn_object(self, uri, folder):
        source = open_source(str(folder))
        (folder / "dog/d.jpg").unlink()
        with pytest.raises(RunFailed, match=r"d\.jpg"):
            write_all(source, uri)
        names = [f.base_name for f in list_files(uri)[2]]
        assert names == ["train-00000-of-00002.parquet"]

    def test_a_finished_shard_outlives_a_second_writer(self, uri, folder):
        """There is no lock on a store; one who starts and stops, or fails, leaves what stands."""
        source = open_source(str(folder))
        destination, notes = write_all(source, uri)
        stored = f"{destination.path}/train-00000-of-00002.parquet"
        whole = read_bytes(destination.filesystem, stored)
        shard = Shard(0, np.arange(4), source.labels()[:4], source.classes)
        second = write_shard(source, destination, shard)
        next(second)
        assert read_bytes(destination.filesystem, stored) == whole
        second.close()
        assert read_bytes(destination.filesystem, stored) == whole
        (folder / "cat/torn.jpg").unlink()
        with pytest.raises(RunFailed, match=r"torn\.jpg"):
            list(write_shard(source, destination, shard))
        assert read_bytes(destination.filesystem, stored) == whole
        assert destination.complete() == notes

    def test_nothing_stands_under_a_shards_name_before_it_is_whole(self, uri, folder):
        source = open_source(str(folder))
        destination = Destination(uri, plan_for(source, row_group_size=1))
        destination.claim()
        shard = Shard(0, np.arange(4), source.labels()[:4], source.classes)
        under_way = write_shard(source, destination, shard)
        next(under_way)
        stored = f"{destination.path}/train-00000-of-00002.parquet"
        assert read_bytes(destination.filesystem, stored) is None
        under_way.close()
        assert read_bytes(destination.filesystem, stored) is None

    def test_a_bucket_that_is_not_there(self, uri, folder):
        nowhere = uri.replace("s3://bucket", "s3://nowhere")
        line = refused(Destination(nowhere, plan_for(open_source(str(folder)))).claim)
        assert "s3://nowhere" in line and "cannot be written" in line


class TestPlan:
    @given(
        groups=st.lists(st.integers(1, 30), min_size=1, max_size=12),
        rows_per_shard=st.integers(1, 100),
        shuffle=st.one_of(st.none(), st.integers(0, 9)),
    )
    def test_every_row_lies_in_one_shard(self, groups, rows_per_shard, shuffle):
        window = None if shuffle is None else shuffle_window(np.array(groups), 1, rows_per_shard)
        plan = Plan("d", sum(groups), "train", None, None, rows_per_shard, 8, shuffle, window)
        order = plan.order(np.array(groups))
        shards = [plan.rows_of(shard, order) for shard in range(len(plan))]
        assert sorted(np.concatenate(shards).tolist()) == list(range(plan.rows))
        assert {len(s) for s in shards[:-1]} <= {rows_per_shard}

    @pytest.mark.parametrize(
        ("rows", "size", "expected"),
        [
            (5, 10_000, 128),
            (880, 2_900_000, 128),
            (1_281_167, 140_000_000_000, 4992),  # half a GiB of 110 kB
            (1_281_167, 30_000_000_000, 8192),
            (20_000, 160_000_000_000, 128),  # photos of 8 MB
        ],
    )
    def test_shards_are_neither_large_nor_few(self, rows, size, expected):
        assert default_rows_per_shard(rows, size, 128) == expected

    @pytest.mark.parametrize(
        ("groups", "size", "per_shard", "expected"),
        [
            ([1] * 1_000_000, 110e9, 4992, 4992),  # a folder: a true permutation
            ([5000], 1e9, 256, 5120),  # all of it
            ([100] * 12_811, 140e9, 4992, 9984),  # 64 groups, in whole shards
            ([10_000] * 128, 140e9, 4992, 79_872),  # 8 GiB
        ],
    )
    def test_a_shuffle_mixes_many_groups(self, groups, size, per_shard, expected):
        assert shuffle_window(np.array(groups), int(size), per_shard) == expected

    def test_classes_in_order_are_mixed_in_every_shard(self):
        labels, groups = np.repeat(np.arange(10), 1000), np.full(10, 1000)
        window = shuffle_window(groups, 10_000, 320)
        plan = Plan("d", 10_000, "train", None, None, 320, 128, 0, window)
        for shard in range(len(plan)):
            assert len(np.unique(labels[plan.rows_of(shard, plan.order(groups))])) == 10


class TestDestination:
    @pytest.fixture
    def source(self, folder):
        return open_source(str(folder))

    def claim(self, to, source, **settings):
        lock = Destination(str(to), plan_for(source, **settings)).claim()
        lock.close()

    def test_the_same_plan_may_go_on_and_another_may_not(self, source, tmp_path):
        self.claim(tmp_path / "out", source, shuffle=1, window=4)
        self.claim(tmp_path / "out", source, shuffle=1, window=4)
        other = Destination(
            str(tmp_path / "out"),
            plan_for(source, shorter_side=24, quality=90, shuffle=1, window=4),
        )
        line = refused(other.claim)
        assert "--shorter-side was not given and is 24, --quality was not given and is 90" in line
        assert "--shuffle" not in line

    def test_other_pictures_are_refused(self, source, folder, tmp_path):
        self.claim(tmp_path / "out", source)
        (folder / "cat/more.png").write_bytes(encode(SMALL))
        changed = open_source(str(folder))
        line = refused(Destination(str(tmp_path / "out"), plan_for(changed)).claim)
        assert f"the source's digest was {source.digest} and is {changed.digest}" in line

    def test_another_split_lies_beside(self, source, tmp_path):
        write_all(source, tmp_path / "out")
        self.claim(tmp_path / "out", source, split="val")

    @pytest.mark.parametrize("name", ["notes.txt", "train-00000-of-00001.parquet"])
    def test_somebody_elses_folder_is_left_alone(self, source, tmp_path, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).touch()
        assert f"holds {name}" in refused(
            Destination(str(tmp_path / "out"), plan_for(source)).claim
        )
        assert [f.name for f in (tmp_path / "out").iterdir()] == [name]

    def test_a_file_and_an_unwritable_place_are_refused(self, source, tmp_path):
        (tmp_path / "out").touch()
        assert "is a file" in refused(Destination(str(tmp_path / "out"), plan_for(source)).claim)
        line = refused(Destination("/proc/out", plan_for(source)).claim)
        assert line.startswith("/proc/out: cannot be written")

    def test_two_at_once_are_refused(self, source, tmp_path):
        first = Destination(str(tmp_path / "out"), plan_for(source)).claim()
        line = refused(Destination(str(tmp_path / "out"), plan_for(source, split="val")).claim)
        assert "is being prepared by another process" in line
        first.close()
        self.claim(tmp_path / "out", source)

    def test_what_a_killed_start_left_is_removed(self, source, tmp_path):
        self.claim(tmp_path / "out", source)
        (tmp_path / "out/.prepare/train-0.parquet.ab.part").touch()
        self.claim(tmp_path / "out", source)
        assert not list(tmp_path.rglob("*.part"))

    @pytest.mark.parametrize("harm", ["cut", "gone", "no note"])
    def test_a_shard_is_complete_only_as_it_was_noted(self, source, tmp_path, harm):
        destination, notes = write_all(source, tmp_path / "out")
        assert sorted(notes) == [0, 1]
        shard = tmp_path / "out/train-00001-of-00002.parquet"
        if harm == "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        elif harm == "gone":
            shard.unlink()
        else:
            (tmp_path / "out/.prepare" / f"{shard.name}.json").unlink()
        assert sorted(destination.complete()) == [0]
