"""What an evaluation tells the pre-training in MLflow, through the verbs' own functions."""

import shutil

import pytest
import yaml

from mimray.cli import main
from mimray.evaluate.cells import Draws, run_cells
from mimray.evaluate.suite import lay_out
from mimray.evaluate.table import table, tell_parents
from mimray.evaluate.transfer_sets import find_sets
from mimray.evaluate.workers import Share
from mimray.train.run_folder import RunFolder
from mimray.train.sync import sync
from tests.evaluate.conftest import QUICK
from tests.train.tracked import Store

pytestmark = pytest.mark.unit


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
    draws = Draws(lambda rows, title: b"", lambda rows, title: b"")
    run_cells([suite.cells[0]], draws, Share())
    tell_parents(suite, table(suite, {}))
    name = f"transfer/{folder.name}"
    assert name not in store.metrics(top)  # a seed is still to come
    run_cells([suite.cells[1]], draws, Share())
    rows = table(suite, {})
    for _ in range(2):
        tell_parents(suite, rows)
    told = store.metrics(top)
    ((images, _, mean),) = told[name]
    assert mean == rows[0]["mean"] and images == 2 * 16
    assert len(told["knn/top1"]) == 1 and "finetune/top1" not in told
    question = "select count(*) from tags where key = 'mlflow.parentRunId' and value = ?"
    assert store._ask(question, top) == [(2,)]
