"""A pre-training from the command line, on a real Ray, tracked in a real MLflow store."""

import json

import pytest
from PIL import Image

from tests.train.runs import TINY, Finished, pretrain

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    """Twelve steps of the demo with two trainers."""
    done = pretrain(tmp_path_factory.mktemp("finished"), *TINY)
    assert done.status == 0, done.err
    return done


def test_json_is_one_object_with_the_agreed_names(finished):
    result = finished.result
    assert set(result) == {
        *("run_dir", "steps", "images_per_s", "val_loss"),
        *("fill_visible_mean", "fill_nearest", "skill", "checkpoint"),
    }
    assert result["run_dir"] == str(finished.folder)
    assert result["steps"] == 12
    assert result["images_per_s"] > 0
    assert 0.3 < result["fill_nearest"] < result["fill_visible_mean"] < 1.2
    assert result["skill"] == pytest.approx(1 - result["val_loss"] / result["fill_nearest"])


def test_rows_count_every_step_once(finished):
    assert [row["step"] for row in finished.rows] == list(range(1, 13))
    assert [row["images"] for row in finished.rows] == [16 * k for k in range(1, 13)]
    assert [row["step"] for row in finished.rows if "val/loss" in row] == [6, 12]


def test_record_says_what_ran(finished):
    record = finished.record
    assert record["status"] == "finished"
    assert (record["steps"], record["total_steps"]) == (12, 12)
    assert [start["step"] for start in record["starts"]] == [0]
    assert record["photos"] == {"train": 880, "val": 120}
    assert record["damaged"] == []
    assert record["versions"]["ray"]


def test_newest_checkpoints_are_kept_and_complete(finished):
    folders = sorted(p.name for p in (finished.folder / "checkpoints").iterdir())
    assert folders == ["step-00000008", "step-00000012"]
    newest = finished.folder / "checkpoints" / folders[-1]
    manifest = json.loads((newest / "manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in newest.iterdir()} - {"manifest.json"}
    assert finished.result["checkpoint"] == str(newest)


def test_figures_are_pictures_of_the_expected_shape(finished):
    grid = Image.open(finished.folder / "figures" / "reconstruction.png")
    assert grid.width > 4 * 96
    assert grid.height > 4 * 96
    assert Image.open(finished.folder / "figures" / "loss.png").width > 600


def test_mlflow_has_the_run_by_the_conventions(finished):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.folder.parent.parent}/mlflow.db")
    run = client.get_run(finished.record["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["mask.ratio"] == "0.6"
    assert run.data.params["model.encoder"] == "swin_nano"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in history] == [16 * k for k in range(1, 13)]
    assert run.data.metrics["val/skill"] == pytest.approx(finished.result["skill"])
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"recipe.yaml", "figures", "images"} <= files


def test_asking_again_prints_the_same_object_and_trains_nothing(finished):
    again = pretrain(finished.folder.parent.parent, *TINY, timeout=60)
    assert again.status == 0
    assert again.result == finished.result
    assert len(again.record["starts"]) == 1


def test_a_taken_name_with_other_settings_is_refused(finished):
    other = pretrain(finished.folder.parent.parent, *TINY, "mask.ratio=0.5", timeout=60)
    assert other.status == 2
    assert "run.name=run is taken" in other.err
    assert finished.record["status"] == "finished"


def test_one_trainer_with_odd_micro_batches_computes_the_same(finished, tmp_path):
    """Speed settings may not change results: three uneven micro-batches on one trainer, and other
    blocks, give the losses of one micro-batch on each of two."""
    other = pretrain(
        tmp_path, *TINY, "speed.workers=1", "speed.micro_batch=7", "speed.block_rows=21"
    )
    assert other.status == 0, other.err
    ours = [row["train/loss"] for row in other.rows]
    theirs = [row["train/loss"] for row in finished.rows]
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert other.result["val_loss"] == pytest.approx(finished.result["val_loss"], rel=1e-4)
