"""Gauges: which values are set, under which names and tags; a live Ray exports them in test_job.py."""

import math
from typing import ClassVar

import pytest

from mimray.train import gauges
from mimray.train.gauges import Gauges

pytestmark = pytest.mark.unit
ROW = {
    "step": 8,
    "images": 512,
    "train/loss": 0.5,
    "train/lr": 1e-3,
    "train/grad_norm": 2.0,
    "train/skipped": 1,
    "speed/images_per_s": 64.0,
    "speed/seconds": 4.0,
    "speed/data_wait_s": 1.0,
    "speed/peak_memory_gib": 0.5,
}


class Seen:
    """Ray's gauge."""

    values: ClassVar[dict] = {}

    def __init__(self, name, description, tag_keys):
        self.name = name
        assert description and tag_keys == ("run",)

    def set(self, value, tags):
        assert isinstance(value, float)
        self.values[self.name, tags["run"]] = value


@pytest.fixture
def seen(monkeypatch) -> dict:
    monkeypatch.setattr(gauges, "Gauge", Seen)
    monkeypatch.setattr(gauges.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(Seen, "values", {})
    return Seen.values


def test_a_row_and_a_checkpoint_are_shown(seen):
    shown = Gauges("a")
    shown.row(ROW | {"val/loss": 0.75}, unreadable=3)
    shown.checkpoint(4)
    shown.checkpoint(8)
    assert seen == {
        ("mimray_step", "a"): 8,
        ("mimray_images", "a"): 512,
        ("mimray_train_loss", "a"): 0.5,
        ("mimray_learning_rate", "a"): 1e-3,
        ("mimray_gradient_norm", "a"): 2,
        ("mimray_skipped_updates", "a"): 1,
        ("mimray_val_loss", "a"): 0.75,
        ("mimray_images_per_second", "a"): 64,
        ("mimray_peak_memory_gib", "a"): 0.5,
        ("mimray_data_wait_ratio", "a"): 0.25,
        ("mimray_skipped_pictures", "a"): 3,
        ("mimray_checkpoint_step", "a"): 8,
        ("mimray_checkpoints", "a"): 2,
    }


def test_what_comes_seldom_is_set_again_before_ray_forgets_it(seen):
    shown = Gauges("a")
    shown.row(ROW | {"val/loss": 0.75}, 0)
    shown.row(ROW | {"train/loss": 0.25}, 0)
    shown.checkpoint(8)
    before = dict(seen)
    seen.clear()
    shown.again()
    assert seen == before and seen["mimray_val_loss", "a"] == 0.75


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_what_is_not_finite_stays_as_it_was(seen, loss):
    shown = Gauges("a")
    shown.row(ROW, 0)
    shown.row(ROW | {"train/loss": loss}, 0)
    assert seen["mimray_train_loss", "a"] == 0.5
    assert ("mimray_val_loss", "a") not in seen


def test_two_runs_of_a_process_have_tags_of_their_own(seen):
    Gauges("a").checkpoint(1)
    Gauges("b").checkpoint(2)
    assert seen["mimray_checkpoint_step", "a"] == 1
    assert seen["mimray_checkpoint_step", "b"] == 2


def test_without_a_ray_nothing_is_set(seen, monkeypatch):
    monkeypatch.setattr(gauges.ray, "is_initialized", lambda: False)
    Gauges("a").row(ROW, 0)
    assert seen == {}
