"""What an evaluation tells the pre-training in MLflow, through the verbs' own functions."""

import shutil
from pathlib import Path

import pytest
import yaml

from mimray.cli import main
from mimray.data.collections import COLLECTIONS
from mimray.evaluate import frozen
from mimray.evaluate.cells import Draws, run_cells
from mimray.evaluate.suite import lay_out
from mimray.evaluate.table import table, tell_parents
from mimray.evaluate.transfer_sets import find_sets
from mimray.evaluate.workers import Share
from mimray.train.run_folder import RunFolder
from mimray.train.sync import sync
from tests.data.collection_fixtures import small
from tests.evaluate.conftest import QUICK
from tests.train.tracked import Store

pytestmark = pytest.mark.slow
DRAWS = Draws(lambda rows, title: b"", lambda rows, title: b"")


@pytest.fixture
def sets(tmp_path, monkeypatch):
    monkeypatch.setitem(COLLECTIONS, "voc2007", small("voc2007", tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def tracked(pretrained, tmp_path):
    """The pre-training, as it were tracked in a store of its own: (run, store)."""
    shutil.copytree(pretrained, tmp_path / "mim")
    run, store = RunFolder(str(tmp_path / "mim")), Store(tmp_path / "m.db")
    settings = yaml.safe_load(run.read("recipe.yaml"))
    settings["run"]["tracking"] = f"sqlite:///{store.file}"
    run.write("recipe.yaml", yaml.safe_dump(settings).encode())
    sync(run)
    return run, store


def test_scores_reach_the_pre_training_once(tracked, folder, tmp_path, capsys):
    run, store = tracked
    top = run.record()["mlflow_run_id"]
    words = ["knn", "--from", run.uri, "--data", str(folder), "--layers", "last", "--here"]
    for _ in range(2):
        assert main(["evaluate", *words, "--storage", str(tmp_path / "runs")]) == 0
    tracking = f"run.tracking=sqlite:///{store.file}"
    settings = [*QUICK, tracking, "optim.batch=4"]
    sets = find_sets(str(folder), None)
    suite = lay_out([run.uri], sets, (0, 1), "finetune_transfer", settings, tmp_path / "runs")
    run_cells([suite.cells[0]], DRAWS, Share())
    tell_parents(suite, table(suite, {}))
    name = f"transfer/{folder.name}"
    assert name not in store.metrics(top)  # a seed is still to come
    run_cells([suite.cells[1]], DRAWS, Share())
    rows = table(suite, {})
    for _ in range(2):
        tell_parents(suite, rows)
    told = store.metrics(top)
    ((images, _, mean),) = told[name]
    assert mean == rows[0]["mean"] and images == 2 * 16
    assert len(told[f"knn/{folder.name}/top1"]) == 1 and "finetune/top1" not in told
    assert len(children(store, top)) == 3


def children(store, run_id):
    question = "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?"
    return [below for (below,) in store._ask(question, run_id)]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("collection:pets:/sets", "linear/pets/mean_per_class"),
        ("collection:dtd:/sets", "linear/dtd/top1"),
        ("collection:voc2007:/sets", "linear/voc2007/map11"),
        ("/data/birds/train", "linear/birds/top1"),
    ],
)
def test_its_score_is_that_of_the_set_s_metric(tmp_path, data, name):
    chosen = {"layer": "last", "top1": 0.5, "mean_per_class": 0.25, "map11": 0.125}
    record = {"kind": "linear", "name": "a", "uri": str(tmp_path), "time": 0.0, "labels": None}
    found = frozen._finding(record | {"data": data, "chosen": chosen})
    assert found.scores == {name: chosen[name.rpartition("/")[2]]}


def test_a_probe_is_a_child_with_its_score_and_files(tracked, sets, tmp_path):
    """Of a suite too; pictures of several labels have another metric."""
    run, store = tracked
    top = run.record()["mlflow_run_id"]
    suite = lay_out(
        [run.uri],
        find_sets("voc2007", str(sets)),
        (0,),
        "finetune_transfer",
        [*QUICK, "data.upright=true"],
        tmp_path / "runs",
    )
    (cell,) = suite.cells
    assert run_cells([cell], DRAWS, Share()) == {}
    (below,) = children(store, top)
    params = dict(store._ask("select key, value from params where run_uuid = ?", below))
    chosen = cell.question.record()["chosen"]
    assert params["data.upright"] == "True" and params["evaluate.layer"] == chosen["layer"]
    assert params["model.encoder"] == "vit_nano" and "data.labels" not in params
    name = "linear/voc2007/map11"
    assert store.metrics(below)[name][0][2] == store.metrics(top)[name][0][2] == chosen["map11"]
    ((status, place),) = store._ask(
        "select status, artifact_uri from runs where run_uuid = ?", below
    )
    assert status == "FINISHED"
    files = Path(place.removeprefix("file://"))
    assert (files / "figures/accuracy.png").is_file() and (files / "result.json").is_file()
