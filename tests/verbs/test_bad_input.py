"""What a user gets wrong: exit 2, one line that names the thing and the mend, nothing half-written."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.cli import main
from tests.train.runs import write_photos

pytestmark = pytest.mark.unit


@pytest.fixture
def refused(tmp_path, capsys):
    """Run `mimray pretrain` where nothing may come of it; returns its one line."""

    def run(*overrides: str, recipe: str = "demo") -> str:
        storage = tmp_path / "runs"
        words = ["pretrain", recipe, f"run.storage={storage}", "run.tracking=off", *overrides]
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.strip().splitlines()
        assert line.startswith("mimray: ")
        assert not storage.exists()
        return line

    return run


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mask.ratioo=0.5", "mask.ratioo is not a setting; did you mean mask.ratio"),
        ("mask.unit=36", "mask.unit=36 does not divide model.image_size=96"),
        ("mask.unit=6", "mask.unit=6 is not a multiple of swin_nano's patch 4; take"),
        ("mask.ratio=1.5", "mask.ratio=1.5"),
        ("mask.ratio=0", "mask.ratio=0"),
        ("mask.ratio=0.99", "mask.ratio=0.99 hides all 36 cells"),
        ("mask.strategy=randon", "mask.strategy=randon is not known; did you mean random"),
        ("model.encoder=swin_nanno", "did you mean swin_nano"),
        ("model.image_size=88", "mask.unit=16 does not divide model.image_size=88"),
        ("head.kind=linnear", "did you mean linear"),
        ("target.kind=pixel", "did you mean pixels"),
        ("schedule.length=100", "write it like 100ep"),
        ("schedule.length=10%", "cannot be a share of itself"),
        (
            "schedule.warmup=1001it",
            "schedule.warmup=1001it is longer than the run, schedule.length=",
        ),
        (
            "run.tracking=mlflow.example.org",
            "nor a file; write run.tracking=https://mlflow.example.org",
        ),
        ("run.tracking=localhost:5000", "write run.tracking=http://localhost:5000"),
        ("data.train=/no/such/place", "/no/such/place: no such file or folder"),
        ("data.train=builtin:pictures", "built in are builtin:photos/train"),
        ("data.train=s4://bucket/x", "s4://bucket/x"),
        ("optim.batch=2000", "880 photos to train on, fewer than one batch"),
        ("run.name=a/b", "run.name"),
    ],
)
def test_a_wrong_setting(refused, override, words):
    assert words in refused(override)


def test_an_unknown_recipe(refused):
    line = refused(recipe="dema")
    assert "no recipe 'dema'" in line
    assert "demo" in line


def test_a_forgotten_recipe(refused):
    assert "the recipe comes first" in refused(recipe="data.train=/photos")


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no files" in refused(f"data.train={tmp_path}/empty")


def test_a_folder_without_pictures(refused, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no picture")
    assert "neither Parquet files nor pictures" in refused(f"data.train={tmp_path}/notes")


def test_parquet_without_an_image_column(refused, tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "words.parquet")
    line = refused(f"data.train={tmp_path}/words.parquet")
    assert "no column image: struct<bytes, path>" in line
    assert "text, label" in line


def test_a_file_that_is_not_parquet(refused, tmp_path):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    assert "not a readable Parquet file" in refused(f"data.train={tmp_path}/torn.parquet")


def test_fewer_photos_than_a_batch_after_holding_out(refused, tmp_path):
    write_photos(tmp_path / "few", count=20)
    line = refused(f"data.train={tmp_path}/few", "optim.batch=16")
    assert "10 photos to train on (10 of the 20 are held out), fewer than" in line
    assert "optim.batch=10" in line


def test_too_many_damaged_pictures(refused, tmp_path):
    write_photos(tmp_path / "bad", count=60)
    for k in range(4):
        (tmp_path / "bad" / f"broken {k}.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no picture")
    line = refused(f"data.train={tmp_path}/bad")
    assert "4 of 64 pictures cannot be read" in line
    assert "broken 0.jpg: damaged" in line


def test_validation_pictures_are_looked_at_too(refused, tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.jpg").write_bytes(b"no picture")
    assert f"data.val={tmp_path}/val: 1 of 1 pictures" in refused(f"data.val={tmp_path}/val")


def test_somebody_elses_folder_is_left_alone(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    line = refused(f"run.storage={tmp_path}", "run.name=mine")
    assert "is there and is no run (it holds photo.jpg)" in line
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_the_hard_pictures(refused, shared):
    line = refused(f"data.train={shared}/data/hard", "optim.batch=4")
    assert "9 of 23 pictures cannot be read" in line


def test_an_unwritable_storage(refused):
    assert "run.storage: /proc/runs/" in refused("run.storage=/proc/runs", "run.name=x")


def test_more_trainers_than_the_cluster_has_room_for():
    from mimray.errors import UserError
    from mimray.recipe import Speed
    from mimray.train.resources import Node, lay_out

    with pytest.raises(UserError, match="do not fit 1 host"):
        lay_out(Speed(workers=8), [Node("h", 2, 0)])
