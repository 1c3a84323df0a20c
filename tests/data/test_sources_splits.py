"""Which files are taken: those of a split, of a pattern, or all."""

import pytest

from mimray.data.sources import open_source
from tests.data.conftest import PICTURES, refused, write_parquet

pytestmark = pytest.mark.unit

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
