"""Weights in a store: a server of the S3 protocol on loopback."""

import time
from pathlib import Path

import pytest
import torch

from mimray.data.files import join, resolve
from mimray.errors import UserError
from mimray.optim import build_optimizer
from mimray.recipe import Optim
from mimray.train.manifest import name_of
from mimray.train.parent import run_behind
from mimray.train.saver import Saver
from mimray.train.tasks.starting_weights import found_at, identities, locate
from mimray.weights import read
from tests.data import test_s3
from tests.train.tracked import make_run

pytestmark = pytest.mark.unit
server, credentials, upload = test_s3.server, test_s3.credentials, test_s3.upload


@pytest.fixture
def local(tmp_path) -> Path:
    """A run with checkpoints of two steps, and a torn one of a third."""
    run = make_run(tmp_path / "here" / "run", "off")
    saver = Saver(run, 3)
    for step in (4, 8):
        model = torch.nn.Linear(3, 2)
        saver.save(step, model, build_optimizer(model, Optim()), {}, None)
    saver.close(8)
    run.filesystem.create_dir(run.file(name_of(12)))
    (Path(run.path) / name_of(12) / "model.safetensors").write_bytes(b"torn")
    return tmp_path / "here"


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_what_names_a_run_on_disk_names_it_in_a_store(local, upload):
    place = upload(local)
    for words in (("run",), ("run", "checkpoints", "step-00000004")):
        there, here = join(place, *words), str(local.joinpath(*words))
        assert same(read(locate(there)), read(here))
        assert [*identities(there).values()] == [*identities(here).values()]
        assert run_behind(there).record() == run_behind(here).record()
    file = join(place, "run", *name_of(8).split("/"), "model.safetensors")
    assert same(read(locate(file)), read(str(local / "run")))
    assert run_behind(file).uri == join(place, "run")
    assert found_at(join(place, "run")) == join(place, "run", *name_of(8).split("/"))


def test_a_copy_is_made_once_and_only_of_weights(local, upload, monkeypatch):
    place = join(upload(local), "run")
    first = locate(place)
    assert {file.name for file in first.iterdir()} == {"manifest.json", "model.safetensors"}
    monkeypatch.setattr("pyarrow.fs.copy_files", None)
    assert locate(place) == first
    assert [file.name for file in first.parents[1].iterdir()] == [first.parent.name]


def test_weights_that_are_written_again_are_copied_again(local, upload):
    file = join(upload(local), "run", *name_of(8).split("/"), "model.safetensors")
    first = locate(file)
    time.sleep(1.1)  # of a store one learns the second
    with resolve(file)[0].open_output_stream(resolve(file)[1]) as stream:
        stream.write((local / "run" / name_of(4) / "model.safetensors").read_bytes())
    again = locate(file)
    assert again != first and same(read(again), read(str(local / "run" / name_of(4))))


def test_a_folder_of_somebody_else(local, upload):
    (local / "theirs").mkdir()
    weights = (local / "run" / name_of(8) / "model.safetensors").read_bytes()
    (local / "theirs/model.safetensors").write_bytes(weights)
    (local / "theirs/notes.txt").write_text("not to be copied")
    place = join(upload(local), "theirs")
    assert same(read(locate(place)), read(str(local / "run")))
    assert [file.name for file in locate(place).iterdir()] == ["model.safetensors"]
    assert run_behind(place) is None


def test_what_is_not_there_is_said_in_a_line(local, upload):
    place = upload(local)
    for words, why in (
        (("nowhere",), "no such file, or no weights in that folder"),
        (("run", "figures"), "no such file, or no weights in that folder"),
        (("run", "checkpoints", "step-00000012"), "no manifest"),
    ):
        with pytest.raises(UserError, match=f"^model.weights.*{why}"):
            identities(join(place, *words))
    store, path = resolve(join(place, "run", "checkpoints"))
    store.delete_dir(path)
    with pytest.raises(UserError, match="no complete checkpoint; go on with the run"):
        locate(join(place, "run"))
