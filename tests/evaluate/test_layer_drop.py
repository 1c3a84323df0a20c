"""Fine-tuning without the last layers, through the function that Ray's tasks call, in this process."""

import csv
import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from mimray.cli import main
from mimray.errors import UserError
from mimray.evaluate.cells import Draws, run_cells
from mimray.evaluate.layer_drop import drop_rows, find_pictures, lay_out_drops
from mimray.evaluate.suite import lay_out
from mimray.evaluate.workers import Share
from mimray.recipe import load_finetune_recipe
from mimray.train.run_folder import RunFolder
from mimray.train.tasks.classification import Classification
from tests.evaluate.conftest import QUICK, SMALL

pytestmark = pytest.mark.slow
NOTHING = Draws(lambda rows, title: b"", lambda rows, title: b"")
WORDS = [*QUICK, "optim.batch=4"]


def study_of(weights, folder, storage, drops=(0, 3), seeds=(0,), words=(), **more):
    settings = {"task": "classify", "drop_from": "last", "recipe": "finetune_transfer"} | more
    return lay_out_drops(
        weights=[str(w) for w in weights],
        data=find_pictures(str(folder), None),
        drops=drops,
        seeds=seeds,
        overrides=[*WORDS, *words],
        storage=storage,
        **settings,
    )


@pytest.fixture(scope="module")
def ran(pretrained, folder, tmp_path_factory):
    """The pretrained vit_nano, of 8 blocks, with all of them and without 3; two seeds."""
    study = study_of([pretrained], folder, tmp_path_factory.mktemp("runs"), seeds=(0, 1))
    failures = run_cells(study.cells, NOTHING, Share())
    return study, failures, drop_rows(study, failures)


def test_a_row_for_each_count(ran):
    study, failures, rows = ran
    assert not failures and len(study.cells) == 4
    assert [(row["drop"], row["remain"]) for row in rows] == [(0, "8"), (3, "5")]
    for row in rows:
        assert row["status"] == "finished" and row["seeds"] == [0, 1] and row["kind"] == "MIM"
        assert row["mean"] == pytest.approx(sum(row["scores"]) / 2) and row["spread"] is not None


def test_what_was_dropped_is_not_there(ran):
    study, _, _ = ran
    for drop, blocks in ((0, 8), (3, 5)):
        run = Path(RunFolder.of(study.suites[drop].cells[0].recipe).path)
        (file,) = run.glob("checkpoints/*/model.safetensors")
        names = {n.split(".")[2] for n in load_file(file) if n.startswith("encoder.blocks.")}
        assert names == {str(number) for number in range(blocks)}


def test_the_whole_encoder_s_runs_are_those_of_a_suite(ran, pretrained, folder):
    study, _, _ = ran
    pictures = find_pictures(str(folder), None)
    storage = study.place.parents[1]
    suite = lay_out([str(pretrained)], [pictures], (0, 1), "finetune_transfer", WORDS, storage)
    assert [c.name for c in suite.cells] == [c.name for c in study.suites[0].cells]
    assert all(cell.outcome().status == "finished" for cell in suite.cells)
    assert not {c.name for c in suite.cells} & {c.name for c in study.suites[3].cells}


def test_it_is_rebuilt_from_the_records_and_one_that_is_missing_runs_alone(
    ran, pretrained, folder, monkeypatch
):
    study, _, rows = ran
    again = study_of([pretrained], folder, study.place.parents[1], drops=(3, 0), seeds=(0, 1))
    assert again.name == study.name and drop_rows(again, {}) == rows
    other = study_of([pretrained], folder, study.place.parents[1], drops=(0, 3, 4), seeds=(0,))
    waiting = [cell for cell in other.cells if cell.outcome().status != "finished"]
    assert other.name != study.name and waiting == list(other.suites[4].cells)


def test_the_last_blocks_go_and_the_first_keep_their_weights(pretrained):
    words = [*SMALL, *QUICK, f"model.weights={pretrained}"]
    torch.manual_seed(0)
    models = [
        Classification(load_finetune_recipe("finetune_demo", [*words, *more]), 3, None, None).build(
            True
        )
        for more in ([], ["model.drop_layers=3"])
    ]
    whole, short = (model.state_dict() for model in models)
    assert len(models[1].encoder.blocks) == 5 and models[1].encoder.depths == (1, 1, 1, 2)
    own = [name for name in short if name.startswith("encoder.")]
    assert own and all(short[name].equal(whole[name]) for name in own)
    assert not models[1].encoder.mask_token.requires_grad


def test_recipes_without_it_keep_their_digest():
    plain = load_finetune_recipe("finetune_demo")
    assert "drop_layers" in plain.to_yaml()
    dropped = load_finetune_recipe("finetune_demo", ["model.drop_layers=2"])
    longest = load_finetune_recipe(
        "finetune_demo", ["model.drop_layers=2", "model.drop_from=longest"]
    )
    assert len({plain.digest(), dropped.digest(), longest.digest()}) == 3
    settings = plain.model_dump(mode="json", include=set(plain.results)) | {"seed": 0}
    assert (
        settings["model"].pop("drop_layers") == 0 and settings["model"].pop("drop_from") == "last"
    )
    told = json.dumps(settings, sort_keys=True).encode()
    assert plain.digest() == hashlib.sha256(told).hexdigest()[:16]
    with pytest.raises(UserError, match="drop_from=longest is of drop_layers, which is 0"):
        load_finetune_recipe("finetune_demo", ["model.drop_from=longest"])


def test_the_verb(ran, pretrained, folder, capsys):
    storage = ran[0].place.parents[1]
    ask = ["analyze", "layer-drop", "--from", str(pretrained), "--data", str(folder), "--here"]
    ask += ["--storage", str(storage), "--drop", "0,7", "--seeds", "0", "--cpus", "1", *WORDS]
    assert main([*ask, "--status", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["rows"]
    assert [row["status"] for row in before] == ["finished", "waiting"]
    assert main([*ask, "--json"]) == 0
    said, errors = capsys.readouterr()
    told = json.loads(said)
    assert [row["remain"] for row in told["rows"]] == ["8", "1"]
    assert "1 of 2 runs" in errors and "1/1  mim without 7 layers, seed 0: " in errors
    place = Path(told["uri"])
    assert place.parent == storage / "analyses" and (place / "curve.png").read_bytes().startswith(
        b"\x89PNG"
    )
    with open(place / "table.csv") as file:
        assert [row["drop"] for row in csv.DictReader(file)] == ["0", "7"]
    assert pq.read_table(place / "table.parquet")["mean"].to_pylist() == [
        row["mean"] for row in told["rows"]
    ]
    assert main(ask) == 0
    assert "MIM, top1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--drop", "0,8"],
            "vit_nano: 8 layers cannot be dropped from 8: each stage keeps one, so 7",
        ),
        (["--drop", "0,x"], "--drop 0,x: write them like 0,2,4"),
        (["--drop", "2,2"], "--drop 2,2: each once"),
        (["--task", "pose"], "--task pose is not known; known: classify"),
        (["model.drop_layers=2"], "layer-drop sets model.drop_layers itself"),
        (["--seeds", "0,0"], "--seeds 0,0: each once"),
        (["--from", "/nowhere"], "/nowhere: no such file or folder"),
        (["--data", "/nowhere"], "/nowhere: no such file or folder"),
    ],
)
def test_a_user_s_mistakes(pretrained, folder, tmp_path, capsys, words, says):
    ask = ["analyze", "layer-drop", "--from", str(pretrained), "--data", str(folder), "--here"]
    assert main([*ask, "--storage", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line and not list(tmp_path.iterdir())


def test_pictures_to_test_are_not_those_trained_on(folder):
    assert find_pictures(str(folder), None).val == str(folder)
    assert find_pictures("builtin:photos/train", None).val == "builtin:photos/val"
    for val in (None, str(folder / "train")):
        with pytest.raises(UserError, match="are the same pictures; a test needs others"):
            find_pictures(str(folder / "train"), val)


def test_a_place_that_cannot_be_written(ran, pretrained, folder, capsys):
    storage = ran[0].place.parents[1]
    ask = ["analyze", "layer-drop", "--from", str(pretrained), "--data", str(folder), "--here"]
    ask += ["--storage", str(storage), "--drop", "0", "--seeds", "0", "--status", *WORDS]
    place = study_of([pretrained], folder, storage, drops=(0,)).place
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"no folder")
    assert main(ask) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--storage {storage}: cannot be read or written (Not a directory)" in line
