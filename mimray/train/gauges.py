"""Ray's metrics of a run, for Prometheus and `cluster/grafana.json`: its newest row, and a few counts.

Ray puts `ray_` before the names. They are set in the driver, where rows arrive anyway; a Ray without
metrics, as a private one is, forgets them.
"""

from __future__ import annotations

import math
from typing import Any

import ray
from ray.util.metrics import Gauge

OF_ROW = {
    "step": ("mimray_step", "optimiser steps done"),
    "images": ("mimray_images", "pictures trained on"),
    "train/loss": ("mimray_train_loss", "training loss, mean since the row before"),
    "train/lr": ("mimray_learning_rate", "learning rate"),
    "train/grad_norm": ("mimray_gradient_norm", "gradient norm before clipping"),
    "train/skipped": ("mimray_skipped_updates", "updates left out by the guard"),
    "val/loss": ("mimray_val_loss", "loss on held-out pictures"),
    "speed/images_per_s": ("mimray_images_per_second", "pictures trained on a second"),
    "speed/peak_memory_gib": ("mimray_peak_memory_gib", "peak memory of rank 0, GiB"),
}
"""Metric of a row -> name and description of its gauge."""
DATA_WAIT = ("mimray_data_wait_ratio", "share of the time that rank 0 waited for pictures")
SKIPPED_PICTURES = ("mimray_skipped_pictures", "pictures that could not be read")
CHECKPOINT_STEP = ("mimray_checkpoint_step", "step of the newest complete checkpoint")
CHECKPOINTS = ("mimray_checkpoints", "checkpoints that this start has completed")


class Gauges:
    """Of one run, in a process that is connected to Ray; elsewhere nothing is set. `run`: the tag."""

    def __init__(self, run: str) -> None:
        self.tags = {"run": run}
        self.gauges: dict[str, Gauge] = {}
        self.values: dict[str, float] = {}
        self.checkpoints = 0

    def row(self, row: dict[str, Any], unreadable: int) -> None:
        """Show a row of `metrics.jsonl`; what it does not have, or what is not finite, stays as it was.

        `unreadable`: pictures of the run that could not be read so far.
        """
        for metric, told in OF_ROW.items():
            self._set(told, row.get(metric))
        if row["speed/seconds"]:
            self._set(DATA_WAIT, row["speed/data_wait_s"] / row["speed/seconds"])
        self._set(SKIPPED_PICTURES, unreadable)

    def checkpoint(self, step: int) -> None:
        """A checkpoint is complete."""
        self.checkpoints += 1
        self._set(CHECKPOINT_STEP, step)
        self._set(CHECKPOINTS, self.checkpoints)

    def again(self) -> None:
        """Set all to what they were: Ray forgets a gauge that is not set for two of its reports, 20 s."""
        for name, value in self.values.items():
            self.gauges[name].set(value, self.tags)

    def _set(self, told: tuple[str, str], value: float | None) -> None:
        if value is None or not math.isfinite(value) or not ray.is_initialized():
            return
        name, description = told
        if name not in self.gauges:
            self.gauges[name] = Gauge(name, description, tag_keys=("run",))
        self.values[name] = float(value)
        self.gauges[name].set(self.values[name], self.tags)
