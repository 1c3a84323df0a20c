"""Everything that the driver hands to the trainers and to the stream."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mimray.data.order import Order
from mimray.data.plan import Plan, validation_plan
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.durations import Clock
from mimray.recipe import TrainingRecipe
from mimray.train.mailbox import Post
from mimray.train.run_folder import RunFolder
from mimray.train.task import Task


@dataclass
class Job:
    """A run, ready to start: task, folder, data and the mailbox to write to.

    `rows`: what is trained on; `subset`: digest of the chosen subset, if there is one.
    `val_source` is `train_source` where validation pictures are held out from it.
    """

    task: Task
    run: RunFolder
    train_source: Source
    val_source: Source
    rows: RowSet
    val_rows: np.ndarray
    subset: str | None = None
    mailbox: Any = None
    post: Post | None = None
    """Takes the loop's mail where the loop runs in the driver's own process."""
    folder: str = field(default_factory=os.getcwd)
    """Where the user stands: paths in a recipe are relative to it."""
    workers: int = 0
    """Trainers of the present start."""

    def __post_init__(self) -> None:
        self.workers = self.workers or self.recipe.speed.most_workers

    @property
    def recipe(self) -> TrainingRecipe:
        """The task's."""
        return self.task.recipe

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
    def data_digest(self) -> str:
        """Of both sources, the subset and the task's files; with the recipe's digest it decides what
        a run computes."""
        parts = (self.pictures_digest, *self.task.files.values())
        return "-".join(part for part in parts if part)

    @property
    def pictures_digest(self) -> str:
        """Of both sources and the subset: what `data_digest` begins with."""
        parts = (self.train_source.digest, self.val_source.digest, self.subset)
        return "-".join(part for part in parts if part)

    @property
    def micro_batch(self) -> int:
        """Pictures in one forward pass of one worker."""
        return self.recipe.micro_batch(self.workers, self.task.together)

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
            together=self.task.together,
        )

    @property
    def val_plan(self) -> Plan:
        """The validation plan: every held-out picture once."""
        speed = self.recipe.speed
        return validation_plan(self.val_rows, self.micro_batch, self.workers, speed.block_rows)
