"""What is done with a cell, one step after another. Each leaves a fact in files of its own.

So a step that is finished is skipped, whoever asks and whatever ended the study in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mimray.data.collections.check import Unlabelled
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.cells import Draws, Quiet
from mimray.evaluate.workers import Share
from mimray.mim.model import MaskedImageModel
from mimray.recipe import FinetuneRecipe, Recipe, TrainingRecipe
from mimray.study.cell import Cell
from mimray.study.placing import placed
from mimray.study.sweeps.objective import FinetuneTop1
from mimray.study.sweeps.sweep import Finetune
from mimray.train.run_folder import RunFolder

Values = dict[str, float | None]
"""Columns of the table."""


class Shown(NamedTuple):
    """Pictures to reconstruct: `rows`, int64, of a source, and what they are called."""

    name: str
    source: Source
    rows: np.ndarray


class Drawings(NamedTuple):
    """Figures, which belong to a higher floor: those of runs and probes, and reconstructions of pictures
    side by side, a PNG, or None for a target that is no picture."""

    draws: Draws
    sheet: Callable[[MaskedImageModel, Recipe, str, Sequence[Shown]], bytes | None]


@dataclass(frozen=True)
class Place:
    """Where a step runs: what its own process has, and for trainers in a group the `speed` that they were
    given room for."""

    share: Share
    speed: tuple[tuple[str, Any], ...] = ()


class Step(Protocol):
    """`name`: of the step; `columns`: what it finds out."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises UserError for what can be known to be wrong before a cell starts."""
        ...

    def training(self, cell: Cell) -> TrainingRecipe | None:
        """The run that it is, whose trainers need room; None for what a single process does."""
        ...

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        """Compute what is still to be computed. Raises UserError or RunFailed."""
        ...

    def values(self, cell: Cell) -> Values | None:
        """From its own files alone; None where it is not finished. Raises UserError for damaged ones."""
        ...

    def pictures(self, cell: Cell) -> float:
        """What it costs, in pictures of a pre-training step of the cell's model."""
        ...


def train(recipe: TrainingRecipe, place: Place, drawings: Drawings) -> None:
    """A run as a step: in this process where it has one trainer, else a group of Ray Train."""
    from mimray.train.launch import launch

    recipe, here = placed(recipe, place.share)
    speed = dict(place.speed)
    if here and not place.share.gpus:
        speed["loader_processes"] = 0  # a thread keeps up, and a process takes seconds to start
    recipe = recipe.model_copy(update={"speed": recipe.speed.model_copy(update=speed)})
    launch(recipe, Quiet(), drawings.draws.loss, here=here)


def finished(recipe: TrainingRecipe) -> dict[str, Any] | None:
    """The record of a run that is finished."""
    record = RunFolder.of(recipe).record()
    if record is None or record["status"] != "finished":
        return None
    return record if record["recipe_digest"] == recipe.digest() else None


@dataclass(frozen=True)
class Pretrain:
    """Satisfies `Step`: the cell's own run."""

    name = "pretrain"
    columns = ("speed/images_per_s",)

    def check(self, cells: Sequence[Cell]) -> None:
        pass  # those that lay them out have, and so does whoever opens their pictures

    def training(self, cell: Cell) -> TrainingRecipe:
        return cell.recipe

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        train(cell.recipe, place, drawings)

    def values(self, cell: Cell) -> Values | None:
        record = finished(cell.recipe)
        return None if record is None else {self.columns[0]: record["final"].get("images_per_s")}

    def pictures(self, cell: Cell) -> float:
        return float(cell.values["iterations"] * cell.recipe.optim.batch)


@dataclass(frozen=True)
class FinetuneStep:
    """Satisfies `Step`: top-1 after the last epoch of a fine-tuning from the cell's last checkpoint."""

    study: str
    settings: Finetune
    name = "finetune"
    columns = ("top1",)

    @property
    def _objective(self) -> FinetuneTop1:
        return FinetuneTop1(self.study, self.settings)

    def check(self, cells: Sequence[Cell]) -> None:
        self._objective.check(cells)

    def training(self, cell: Cell) -> FinetuneRecipe:
        return self._of(cell, None)

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        train(self._of(cell, RunFolder.of(cell.recipe).uri), place, drawings)

    def _of(self, cell: Cell, start: str | None) -> FinetuneRecipe:
        """Where its settings say nothing of CPUs it takes what the cell took: else one fine-tuning would
        have a small host for itself, and cells that train side by side would queue for it."""
        recipe = self._objective.recipe(cell, start)
        if recipe.speed.cpus_per_worker is not None:
            return recipe
        update = {"cpus_per_worker": cell.recipe.speed.cpus_per_worker}
        return recipe.model_copy(update={"speed": recipe.speed.model_copy(update=update)})

    def values(self, cell: Cell) -> Values | None:
        value = self._objective.value(cell)
        return None if value is None else {self.columns[0]: value}

    def pictures(self, cell: Cell) -> float:
        """A picture costs about as many operations a pixel."""
        recipe = self.training(cell)
        pixels = (recipe.model.image_size / cell.recipe.model.image_size) ** 2
        return float(_steps(recipe) * recipe.optim.batch) * pixels


_LENGTHS: dict[str, int] = {}


def _steps(recipe: FinetuneRecipe) -> int:
    """Of a fine-tuning, for which its data are opened once; encoders change nothing about them."""
    from mimray.train.prepare import open_data

    told = f"{recipe.data.model_dump_json()} {recipe.optim.batch} {recipe.schedule.length}"
    if told not in _LENGTHS:
        total = open_data(recipe).clock.total
        assert total is not None
        _LENGTHS[told] = total
    return _LENGTHS[told]


def is_finished(step: Step, cell: Cell) -> bool:
    """A damaged file counts as one that is not there: it is a failure of that cell alone."""
    try:
        return step.values(cell) is not None
    except UserError:
        return False


def check_steps(steps: Sequence[Step], cells: Sequence[Cell]) -> None:
    """Raises UserError, in a line that names the step."""
    for step in steps:
        try:
            step.check(cells)
        except UserError as error:
            line = str(error)
            told = line if line.startswith(step.name) else f"{step.name}: {line}"
            if isinstance(error, Unlabelled):
                told += ", or leave out finetune and tasks"
            raise UserError(told) from None
