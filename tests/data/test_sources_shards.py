"""Numbered shards: what is missing, in part asked for, or not prepared to its end."""

import json
from dataclasses import asdict

import pytest

from mimray.data.prepare import Plan
from mimray.data.sources import open_source
from tests.data.conftest import refused, write_parquet

pytestmark = pytest.mark.unit


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
