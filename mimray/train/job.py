"""Everything that the driver hands to the trainers and to the stream."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mimray.data.framing import Framing
from mimray.data.order import Order
from mimray.data.plan import Plan, validation_plan
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.durations import Clock
from mimray.errors import UserError
from mimray.recipe import Recipe
from mimray.train.run_folder import RunFolder


@dataclass
class Job:
    """A run, ready to start: recipe, folder, data and the mailbox to write to.

    `rows`: what is trained on; `subset`: digest of the chosen subset, if there is one.
    `val_source` is `train_source` where validation pictures are held out from it.
    """

    recipe: Recipe
    run: RunFolder
    train_source: Source
    val_source: Source
    rows: RowSet
    val_rows: np.ndarray
    subset: str | None = None
    mailbox: Any = None
    folder: str = field(default_factory=os.getcwd)
    """Where the user stands: paths in a recipe are relative to it."""
    workers: int = 0
    """Trainers of the present start."""

    def __post_init__(self) -> None:
        self.workers = self.workers or self.recipe.speed.most_workers

    @cached_property
    def order(self) -> Order:
        """The order of the training rows."""
        recipe = self.recipe
        return Order(
            self.train_source.groups, self.rows, recipe.run.seed, recipe.data.shuffle_window
        )

    @cached_property
    def clock(self) -> Clock:
        """Turns the recipe's durations into steps; its `total` is the run's length."""
        batch = self.recipe.optim.batch
        bare = Clock(len(self.order) // batch, batch)
        return Clock(bare.steps_per_epoch, batch, bare.steps(self.recipe.schedule.length))

    @cached_property
    def mask(self) -> dict[str, float]:
        """`hidden_ratio` and `average_distance` of the recipe's masks."""
        from mimray.mim.encoders import ENCODERS
        from mimray.mim.masks.statistics import statistics

        mask, model = self.recipe.mask, self.recipe.model
        patch = ENCODERS[model.encoder].patch
        return statistics(mask.strategy, model.image_size, mask.unit, patch, mask.ratio)._asdict()

    @cached_property
    def target_files(self) -> dict[str, str]:
        """Local files that the target is made from, as the recipe names them, and their digests.

        Raises UserError for one that cannot be read.
        """
        target = self.recipe.target
        code = (target.module or "").rpartition(":")[0]
        files = [f for f in (target.file, code if code.endswith(".py") else None) if f]
        try:
            return {file: _sha256(file) for file in files}
        except OSError as error:
            raise UserError(
                f"target.file={error.filename}: cannot be read ({error.strerror}); name a file of this "
                f"host, or leave it out"
            ) from None

    @cached_property
    def data_digest(self) -> str:
        """Of both sources, the subset and the target's files; with the recipe's digest it decides what
        a run computes."""
        parts = (
            self.train_source.digest,
            self.val_source.digest,
            self.subset,
            *self.target_files.values(),
        )
        return "-".join(part for part in parts if part)

    @property
    def micro_batch(self) -> int:
        """Pictures in one forward pass of one worker."""
        speed, batch = self.recipe.speed, self.recipe.optim.batch
        share = -(-batch // self.workers)  # more would leave other workers without pictures
        return min(speed.micro_batch or 128, share)

    def plan(self, start: int) -> Plan:
        """The training plan from a position on."""
        total = self.clock.total
        assert total is not None
        speed = self.recipe.speed
        return Plan(
            self.order,
            self.recipe.optim.batch,
            self.micro_batch,
            self.workers,
            start,
            total,
            speed.block_rows,
        )

    @property
    def val_plan(self) -> Plan:
        """The validation plan: every held-out picture once."""
        speed = self.recipe.speed
        return validation_plan(self.val_rows, self.micro_batch, self.workers, speed.block_rows)

    @property
    def train_framing(self) -> Framing:
        """Random crops and flips."""
        data, size = self.recipe.data, self.recipe.model.image_size
        return Framing(
            size,
            True,
            self.recipe.run.seed,
            data.crop_scale,
            data.crop_ratio,
            data.flip,
            data.upright,
        )

    @property
    def val_framing(self) -> Framing:
        """The centred square."""
        return Framing(self.recipe.model.image_size, False, upright=self.recipe.data.upright)


def check_target_files(record: dict[str, Any]) -> None:
    """Raises UserError where a file that a run's target was made from has changed since it began.

    One that is gone does not count: what a finished run found can be shown without it.
    """
    for file, digest in record.get("target_files", {}).items():
        if Path(file).expanduser().is_file() and _sha256(file) != digest:
            raise UserError(
                f"run.name={record['name']} was started with another {file} than is there now; "
                f"choose another run.name"
            )


def _sha256(file: str) -> str:
    """Digest of a local file."""
    with open(Path(file).expanduser(), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
