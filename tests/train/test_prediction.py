"""Predictions from a recipe, and what is refused before anything starts."""

from collections import namedtuple

import pytest

from mimray.errors import UserError
from mimray.mim.costs import Flops
from mimray.mim.memory_estimate import Memory
from mimray.recipe import load_recipe
from mimray.train import prediction
from mimray.train.prediction import (
    MFU,
    Extent,
    Prediction,
    extent,
    predict,
    refuse_what_does_not_fit,
)
from mimray.train.prepare import open_data

pytestmark = pytest.mark.unit

GIB = 2**30


def predicted(**changes):
    """A trainer of 4 GiB; a picture is a GFLOP, and the CPU does a TFLOP/s."""
    figures = {
        "parameters": 10,
        "flops": Flops(0.3e9, 1e9),
        "memory": Memory(GIB, GIB, GIB, GIB),
        "micro_batch": 8,
        "trainers": 2,
        "device": "2 CPU cores",
        "kind": "cpu",
        "precision": "float32",
        "rate": 1e12,
        "extent": Extent(1000, 10_000),
    }
    return Prediction(**(figures | changes))


@pytest.fixture
def demo(tmp_path):
    def load(*overrides):
        return load_recipe("demo", [f"run.storage={tmp_path}/runs", *overrides])

    return load


@pytest.fixture
def roomy(monkeypatch):
    """A host with 64 GiB of memory and of disk free; returns what changes that."""
    usage = namedtuple("usage", "free")
    free = {"memory": 64, "disk": 64}
    monkeypatch.setattr(prediction, "free_memory", lambda: free["memory"] * GIB)
    monkeypatch.setattr(prediction.shutil, "disk_usage", lambda _: usage(free["disk"] * GIB))
    return free


def test_speed_and_times():
    p = predicted()
    assert p.images_per_s == pytest.approx(MFU * 1000)
    assert p.extent.times(100.0) == {
        "images_per_s": 100.0,
        "epochs_per_day": pytest.approx(8640.0),
        "hours": pytest.approx(10_000 / 100 / 3600),
    }
    assert Extent(None, None).times(100.0)["hours"] is None


def test_the_length_of_a_run(demo):
    recipe = demo("schedule.length=3ep")
    assert extent(recipe, open_data(recipe)) == Extent(880, 3 * 880)
    assert extent(recipe, None) == Extent(None, None)
    assert extent(demo("schedule.length=50it"), None) == Extent(None, 50 * 16)


def test_a_prediction_of_the_demo(demo, monkeypatch):
    monkeypatch.setattr(prediction, "matrix_rate", lambda device, bf16: 1e11)
    found = predict(demo("speed.device=cpu"), None)
    assert (found.kind, found.precision, found.trainers) == ("cpu", "float32", 2)
    assert found.micro_batch == 8
    assert found.rate == 1e11  # the trainers share the cores
    shown = found.to_json()
    assert shown["images_per_s"] == pytest.approx(MFU * 1e11 / (shown["gflop_training"] * 1e9))
    parts = {k: v for k, v in shown["memory_gib"].items() if k != "total"}
    assert sum(parts.values()) == pytest.approx(shown["memory_gib"]["total"])
    assert shown["hours"] == pytest.approx(16_000 / shown["images_per_s"] / 3600)


def test_a_stage_that_is_not_there(demo):
    with pytest.raises(UserError, match=r"speed\.checkpoint_stages=\[7\]"):
        predict(demo("speed.checkpoint_stages=[7]"), None)


def test_what_fits(demo, roomy):
    refuse_what_does_not_fit(demo(), predicted(), 26)


def test_too_little_memory(demo, roomy):
    """Two trainers of 4 and a half GiB, and the stream."""
    roomy["memory"] = 11
    with pytest.raises(UserError, match=r"11\.3 GiB .* 11\.0 GiB are free; lower speed\.micro_b"):
        refuse_what_does_not_fit(demo(), predicted(), 26)


def test_too_little_room(demo, roomy):
    roomy["disk"] = 5
    with pytest.raises(UserError, match=r"needs 6\.0 GiB for checkpoints .* 5\.0 GiB free"):
        refuse_what_does_not_fit(demo(), predicted(), 26)


def test_too_much_time(demo, roomy):
    with pytest.raises(UserError, match=r"26 steps of 16 pictures would take 1\.2 h"):
        refuse_what_does_not_fit(demo(), predicted(rate=1e9 * 16 * 26 / 4320 / MFU), 26)
