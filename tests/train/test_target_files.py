"""Files that a target is made from are part of what a run computed."""

import json

import numpy as np
import pytest

from mimray.cli import main
from mimray.data.rowset import RowSet
from mimray.data.sources import open_source
from mimray.errors import UserError
from mimray.recipe import load_recipe
from mimray.train.files import check_files
from mimray.train.job import Job
from mimray.train.record import Record
from mimray.train.run_folder import RunFolder
from mimray.train.tasks.pretraining import Pretraining

pytestmark = pytest.mark.unit

TOKENS = ["target.kind=tokens", "target.file=codes.bin"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Where the user stands, with a file of codes and one of code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codes.bin").write_bytes(b"codes")
    (tmp_path / "mine.py").write_text("class Tokenizer: ...")
    return tmp_path


def job(*overrides):
    recipe, val = load_recipe("demo", overrides), open_source("builtin:photos/val", "val")
    rows = RowSet.everything(len(val))
    return Job(Pretraining(recipe), RunFolder.of(recipe), val, val, rows, np.arange(8))


def record(*overrides):
    """What `run.json` of a run holds that began now."""
    return {"name": "r", "files": job(*overrides).task.files}


@pytest.mark.parametrize(
    ("overrides", "files"),
    [
        ([], []),
        (["target.kind=clusters", "target.file=codes.bin"], ["codes.bin"]),
        ([*TOKENS, "target.module=mine.py:Tokenizer"], ["codes.bin", "mine.py"]),
        ([*TOKENS, "target.module=package.module:Tokenizer"], ["codes.bin"]),
        (["target.kind=tokens", "target.module=./mine.py:Tokenizer"], ["./mine.py"]),
    ],
)
def test_the_files_are_named_as_in_the_recipe(overrides, files):
    assert list(job(*overrides).task.files) == files


@pytest.mark.parametrize("file", ["codes.bin", "mine.py"])
def test_another_content_is_other_data(here, file):
    overrides = [*TOKENS, "target.module=mine.py:Tokenizer"]
    before, began = job(*overrides).data_digest, record(*overrides)
    check_files(began)
    (here / file).write_text("other")
    assert job(*overrides).data_digest != before
    with pytest.raises(UserError) as caught:
        check_files(began)
    line = str(caught.value)
    assert f"run.name=r was started with another {file} than is there now" in line
    assert "\n" not in line and caught.value.exit_code == 2


def test_a_file_that_is_gone_and_a_record_without_files_say_nothing(here):
    began = record(*TOKENS)
    (here / "codes.bin").unlink()
    check_files(began)
    check_files({"name": "r"})


def test_a_finished_run_is_shown_until_a_file_of_its_target_changes(here, capsys):
    settings = [*TOKENS, "target.module=mine.py:Tokenizer", "run.name=r", f"run.storage={here}"]
    made = job(*settings)
    made.run.make()
    Record(made).save(status="finished", final={"val/loss": 0.5})
    ask = ["pretrain", "demo", "--json", *settings]
    assert main(ask) == 0 and json.loads(capsys.readouterr().out)["val_loss"] == 0.5
    (here / "codes.bin").write_bytes(b"other codes")
    assert main(ask) == 2
    out, err = capsys.readouterr()
    assert out == "" and "r was started with another codes.bin than is there now" in err
    (here / "codes.bin").unlink()
    assert main(ask) == 0
