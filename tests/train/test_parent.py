"""A fine-tuning is shown below its pre-training in MLflow, and its scores on the pre-training's page."""

from pathlib import Path

import pytest
import yaml

from mimray.tracking import Copy
from mimray.train.parent import parent_of, run_behind, settings_of, tell_parent
from mimray.train.spool import head_of
from mimray.train.sync import sync
from tests.train.tracked import make_run, row

pytestmark = pytest.mark.unit


def uri_of(store):
    return f"sqlite:///{store.file}"


def set_up(run, /, **sections):
    settings = settings_of(run)
    for name, values in sections.items():
        if isinstance(values, dict):
            values = settings.get(name, {}) | values
        settings |= {name: values}
    run.write("recipe.yaml", yaml.safe_dump(settings).encode())


@pytest.fixture
def parent(tmp_path, store):
    """A pre-training of 100 steps of 8 pictures, delivered to an experiment of its own."""
    run = make_run(tmp_path / "mim", uri_of(store), "finished")
    set_up(run, optim={"batch": 8}, run={"experiment": "papers"})
    run.append_rows([row(k) for k in (1, 2)])
    run.write_record(run.record() | {"steps": 100})
    sync(run)
    return run


def child(tmp_path, store, parent, name="tune", status="finished", recipe="demo", **more):
    run = make_run(tmp_path / name, uri_of(store), status)
    set_up(run, name=recipe, model={"weights": parent.uri}, run=more)
    values = (0.5, 0.75, 0.7)
    run.append_rows([row(k, **{"val/top1": v}) for k, v in enumerate(values, start=1)])
    return run


def tags(store, run_id):
    return dict(store._ask("select key, value from tags where run_uuid = ?", run_id))


def experiment(store, run_id):
    ((name,),) = store._ask(
        "select e.name from experiments e join runs r on e.experiment_id = r.experiment_id "
        "where r.run_uuid = ?",
        run_id,
    )
    return name


def scores(store, run_id):
    told = store.metrics(run_id)
    kinds = ("finetune/", "transfer/", "linear/", "knn/")
    return {name: points for name, points in told.items() if name.startswith(kinds)}


def test_it_lies_below_its_pre_training_and_tells_it_its_scores_once(tmp_path, store, parent):
    run = child(tmp_path, store, parent)
    sync(run)
    top, below = parent.record()["mlflow_run_id"], run.record()["mlflow_run_id"]
    assert tags(store, below)["mlflow.parentRunId"] == top
    assert experiment(store, below) == experiment(store, top) == "papers"
    when = int((1.7e9 + 3.125) * 1000)
    expected = {
        "finetune/top1": [(800, when, 0.7)],
        "finetune/top1_best": [(800, when, 0.75)],
    }
    assert scores(store, top) == expected
    sync(run)
    assert scores(store, top) == expected


def test_few_labels_are_told_by_another_name(tmp_path, store, parent):
    run = child(tmp_path, store, parent)
    set_up(run, data={"labels": "10%"})
    sync(run)
    told = scores(store, parent.record()["mlflow_run_id"])
    assert set(told) == {"finetune/top1_labels_0.1", "finetune/top1_best_labels_0.1"}


def test_one_that_was_not_finished_tells_nothing_until_it_is(tmp_path, store, parent):
    run = child(tmp_path, store, parent, status="stopped")
    sync(run)
    top = parent.record()["mlflow_run_id"]
    assert scores(store, top) == {}
    run.write_record(run.record() | {"status": "finished"})
    sync(run)
    assert set(scores(store, top)) == {"finetune/top1", "finetune/top1_best"}


def test_a_cell_of_a_suite_is_a_child_and_leaves_the_telling_to_the_suite(tmp_path, store, parent):
    run = child(tmp_path, store, parent, recipe="transfer-dtd")
    sync(run)
    top, below = parent.record()["mlflow_run_id"], run.record()["mlflow_run_id"]
    assert tags(store, below)["mlflow.parentRunId"] == top and scores(store, top) == {}
    for _ in range(2):
        tell_parent(parent.uri, {"transfer/dtd": 0.625}, 1.7e9)
    assert scores(store, top) == {"transfer/dtd": [(800, 1_700_000_000_000, 0.625)]}


def test_another_experiment_or_store_is_respected(tmp_path, store, parent):
    apart = child(tmp_path, store, parent, "apart", experiment="mine")
    elsewhere = child(tmp_path, store, parent, "elsewhere", tracking=f"sqlite:///{tmp_path}/o.db")
    for run in (apart, elsewhere):
        assert parent_of(settings_of(run), run.record()) is None
    sync(apart)
    below = apart.record()["mlflow_run_id"]
    assert experiment(store, below) == "mine" and "mlflow.parentRunId" not in tags(store, below)


def test_a_parent_that_mlflow_has_lost_fails_nothing(tmp_path, store, parent):
    from mlflow import MlflowClient

    run = child(tmp_path, store, parent)
    copy = Copy(head_of(run, run.record()), None)
    copy.rows(run.rows())
    MlflowClient(uri_of(store)).delete_run(parent.record()["mlflow_run_id"])
    copy.close("finished", 0, 1.8e9)
    late = child(tmp_path, store, parent, "late")
    sync(late)
    assert experiment(store, late.record()["mlflow_run_id"]) == "mimray"
    assert scores(store, parent.record()["mlflow_run_id"]) == {}


def test_a_parent_that_is_delivered_later_is_tagged_then(tmp_path, store, parent):
    known = parent.record()
    parent.write_record(known | {"mlflow_run_id": None})
    run = child(tmp_path, store, parent, experiment="papers")
    sync(run)
    below = run.record()["mlflow_run_id"]
    assert "mlflow.parentRunId" not in tags(store, below)
    parent.write_record(known)
    sync(run)
    assert tags(store, below)["mlflow.parentRunId"] == known["mlflow_run_id"]


def test_a_server_that_is_away_is_a_line(tmp_path, store, parent, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    set_up(parent, run={"tracking": "http://127.0.0.1:9"})
    tell_parent(parent.uri, {"knn/top1": 0.5}, 1.7e9)
    assert "MLflow at http://127.0.0.1:9 does not have knn/top1" in caplog.text
    tell_parent("/nowhere", {"knn/top1": 0.5}, 1.7e9)
    set_up(parent, run={"tracking": "off"})
    tell_parent(parent.uri, {"knn/top1": 0.5}, 1.7e9)


def test_the_run_behind_weights(tmp_path, store, parent):
    step = Path(parent.uri) / "checkpoints" / "step-00000100"
    step.mkdir(parents=True)
    (step / "model.safetensors").touch()
    for place in (Path(parent.uri), step, step / "model.safetensors"):
        assert run_behind(str(place)).uri == parent.uri
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    for place in (None, "supervised:timm/x", "/nowhere", str(tmp_path), str(tmp_path / "other")):
        assert run_behind(place) is None
    itself = make_run(tmp_path / "itself", uri_of(store))
    set_up(itself, model={"weights": itself.uri})
    assert parent_of(settings_of(itself), itself.record()) is None
