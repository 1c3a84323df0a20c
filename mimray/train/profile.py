"""Twenty real steps of a recipe, and where their time goes.

They are a short run by the run's own loop, on the recipe's data, beside its runs; nothing of it stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mimray.data.files import join
from mimray.durations import Clock
from mimray.recipe import Recipe
from mimray.train.clerk import Progress
from mimray.train.launch import launch
from mimray.train.prediction import Prediction, refuse_what_does_not_fit
from mimray.train.run_folder import RunFolder, remove_empty

STEPS, WARM_UP = 20, 5
_ROW, _SAVE = WARM_UP, 10  # steps; a row waits for the device, and the first ends the warm-up
_TOTAL = WARM_UP + STEPS + 1  # validation comes with the last

Row = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """Seconds, means over STEPS: `data`, waiting for pictures in a step; `compute`, the rest of it;
    `report`, of one row of metrics; `stall`, how long one checkpoint stops the loop. The last two come
    once in so many steps of the recipe. `ideal`: seconds of a picture at the full matrix rate."""

    batch: int
    data: float
    compute: float
    report: float
    report_every: int
    stall: float
    stall_every: int
    ideal: float
    peak_memory_gib: float

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of a step, by what they go to; validation is left out."""
        return {
            "data_wait": self.data,
            "compute": self.compute,
            "report": self.report / self.report_every,
            "checkpoint": self.stall / self.stall_every,
        }

    @property
    def images_per_s(self) -> float:
        """Of all trainers, with everything in `parts`."""
        return self.batch / sum(self.parts.values())

    @property
    def mfu(self) -> float:
        """Model operations done, of those that the matrix rate allows."""
        return self.images_per_s * self.ideal

    def to_json(self) -> dict[str, Any]:
        """For `--json`: plain numbers, with their units in their names."""
        seconds = sum(self.parts.values())
        return {
            "steps": STEPS,
            "batch": self.batch,
            "mfu": self.mfu,
            "seconds_a_step": seconds,
            "shares": {name: part / seconds for name, part in self.parts.items()},
            "report_s": self.report,
            "report_every": self.report_every,
            "checkpoint_stall_s": self.stall,
            "checkpoint_every": self.stall_every,
            "peak_memory_gib": self.peak_memory_gib,
        }


def measure(recipe: Recipe, predicted: Prediction, clock: Clock, progress: Progress) -> Measurement:
    """Train WARM_UP steps, then STEPS that count, in a folder that is gone afterwards.

    `clock`: of the recipe's own run. Raises UserError for what does not fit this host, and what
    `launch` raises.
    """
    refuse_what_does_not_fit(recipe, predicted, _TOTAL)
    with _folder_beside(recipe) as storage:
        short = shortened(recipe, storage)
        record, _ = launch(short, progress, lambda _rows, _title: b"")
        rows = RunFolder.of(short).rows()
    start = record["starts"][-1]
    share = start["workers"] / predicted.trainers if predicted.kind == "cuda" else 1.0
    return read_rows(rows, recipe, clock, predicted.flops.training / (predicted.rate * share))


def shortened(recipe: Recipe, storage: str) -> Recipe:
    """The run that is measured: the recipe's, but for its length, its place and what is written.

    It validates on 64 pictures held out from the training data. The warm-up is all of it, so that no
    step is taken at a learning rate that it has not been led to.
    """
    end = f"{_TOTAL}it"
    changes = {
        "data": {"val": None, "val_fraction": 1e-12},
        "schedule": {"length": end, "warmup": end},
        "run": {
            "name": "profile",
            "storage": storage,
            "tracking": "off",
            "validate_every": end,
            "checkpoint_every": f"{_SAVE}it",
            "log_every": f"{_ROW}it",
            "keep": 1,
            "restarts": 0,
        },
    }
    update = {name: getattr(recipe, name).model_copy(update=to) for name, to in changes.items()}
    return recipe.model_copy(update=update)


@contextmanager
def _folder_beside(recipe: Recipe) -> Iterator[str]:
    """A new folder where the recipe's runs lie, for checkpoints to cost what they cost there."""
    storage = RunFolder.of(recipe).uri.rpartition("/")[0]
    folder = RunFolder(join(storage, f".profile-{uuid.uuid4().hex[:8]}"))
    made = folder.make()
    try:
        yield folder.uri
    finally:
        folder.filesystem.delete_dir(folder.path)
        remove_empty(made[:-1])


def read_rows(rows: list[Row], recipe: Recipe, clock: Clock, ideal: float) -> Measurement:
    """Where the time of a shortened run went, from its rows.

    The loop counts neither the making of a row nor a checkpoint in a row's seconds: they are what passes
    between two rows beside these. Of two checkpoints the quicker counts, for the first touches fresh
    memory and the second may wait for the first to be written.
    """
    pairs = [(a, b) for a, b in pairwise(rows) if b["step"] <= WARM_UP + STEPS]
    beside = [max(0.0, b["time"] - a["time"] - b["speed/seconds"]) for a, b in pairs]
    saved = [a["step"] % _SAVE == 0 for a, _ in pairs]
    report = min(gap for gap, save in zip(beside, saved, strict=True) if not save)
    stall = min(gap for gap, save in zip(beside, saved, strict=True) if save)
    seconds = sum(b["speed/seconds"] for _, b in pairs)
    waited = sum(b["speed/data_wait_s"] for _, b in pairs)
    return Measurement(
        batch=recipe.optim.batch,
        data=waited / STEPS,
        compute=(seconds - waited) / STEPS,
        report=report,
        report_every=clock.steps(recipe.run.log_every),
        stall=max(0.0, stall - report),
        stall_every=clock.steps(recipe.run.checkpoint_every),
        ideal=ideal,
        peak_memory_gib=max(b["speed/peak_memory_gib"] for _, b in pairs),
    )
