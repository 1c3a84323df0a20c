"""F7: whatever is wrong with the newest checkpoint is noticed and named; the one before is taken."""

import random
import shutil
from pathlib import Path

import pytest

from mimray.train import checkpoint, manifest
from mimray.train.run_folder import RunFolder
from tests.faults.tiny_checkpoints import assert_loads, write

pytestmark = pytest.mark.faults

BEFORE, NEWEST = 10, 20
FLIPS = 100  # bits of each file, one after another
COMMON = ("loop.json", "manifest.json")
FILES = {
    1: ("model.safetensors", "optimizer.safetensors", *COMMON),
    2: (
        *(
            f"{kind}-0000{rank}-of-00002.safetensors"
            for kind in ("model", "optimizer")
            for rank in (0, 1)
        ),
        *COMMON,
    ),
}
every_file = pytest.mark.parametrize(
    ("shards", "name"), [(shards, name) for shards, names in FILES.items() for name in names]
)
every_kind = pytest.mark.parametrize("shards", FILES)


@pytest.fixture
def newest(tmp_path, shards):
    """The folder of the newer of two checkpoints, to do harm to."""
    run = RunFolder(str(tmp_path / "run"))
    for step in (BEFORE, NEWEST):
        write(run, step, shards)
    assert checkpoint.verified(run) == NEWEST
    return Path(run.path) / manifest.name_of(NEWEST)


def assert_the_one_before_is_taken(newest, caplog):
    run = RunFolder(str(newest.parent.parent))
    caplog.clear()
    assert checkpoint.verified(run) == BEFORE
    (message,) = [record.getMessage() for record in caplog.records]
    assert manifest.name_of(NEWEST) in message and message.endswith("taking the one before")
    assert checkpoint.newest(run) == BEFORE  # this is what trainers ask
    assert_loads(run, BEFORE)
    return message


@every_file
def test_a_flipped_bit(newest, name, caplog):
    data = (newest / name).read_bytes()
    for bit in random.Random(name).sample(range(8 * len(data)), FLIPS):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        (newest / name).write_bytes(damaged)
        assert manifest.problem_of(RunFolder(str(newest.parent.parent)), NEWEST, contents=True), bit
    message = assert_the_one_before_is_taken(newest, caplog)
    assert f"({name} is damaged)" in message or name == "manifest.json"


@every_file
@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_a_file_cut_off(newest, name, caplog, left):
    data = (newest / name).read_bytes()
    (newest / name).write_bytes(data[: int(left * len(data))])
    message = assert_the_one_before_is_taken(newest, caplog)
    assert f"({name} is cut off)" in message or name == "manifest.json"


@every_file
def test_a_file_missing(newest, name, caplog):
    (newest / name).unlink()
    message = assert_the_one_before_is_taken(newest, caplog)
    assert f"({name} is missing)" in message or name == "manifest.json"


@every_file
def test_a_file_of_another_step(newest, name, caplog):
    """As in a folder that two writers filled, or in a copy that overtook another."""
    shutil.copy(newest.parent / f"step-{BEFORE:08d}" / name, newest / name)
    assert_the_one_before_is_taken(newest, caplog)


@every_kind
def test_a_folder_with_another_steps_name(newest, caplog):
    shutil.rmtree(newest)
    shutil.copytree(newest.parent / f"step-{BEFORE:08d}", newest)
    assert "no manifest of its own" in assert_the_one_before_is_taken(newest, caplog)


@every_kind
def test_an_empty_folder(newest, caplog):
    shutil.rmtree(newest)
    newest.mkdir()
    assert_the_one_before_is_taken(newest, caplog)


@every_kind
def test_of_two_damaged_ones_none_is_taken(newest, caplog):
    for folder in newest.parent.iterdir():
        (folder / "loop.json").unlink()
    assert checkpoint.verified(RunFolder(str(newest.parent.parent))) is None
    assert caplog.text.count("loop.json is missing") == 2
