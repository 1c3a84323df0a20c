"""What trials are ranked by. A reconstruction loss is none: it does not compare over masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mimray.errors import UserError
from mimray.evaluate.cells import Draws
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.score import finetuned_metric
from mimray.evaluate.workers import Share
from mimray.recipe import FinetuneRecipe, Speed, load_finetune_recipe
from mimray.recipe.yaml_file import as_words
from mimray.study.cell import Cell
from mimray.study.placing import placed, storage_of, trains_here
from mimray.study.sweeps.knn_top1 import KnnTop1
from mimray.study.sweeps.pictures import on_named_pictures, said
from mimray.study.sweeps.sweep import Finetune, Sweep
from mimray.train.clerk import Progress
from mimray.train.run_folder import RunFolder

_OF_SWEEP = ("model.weights", "run.name", "run.storage", "run.tracking")


class Objective(Protocol):
    """`metric`: the name under which tables have it; higher is better. `label`: for people."""

    @property
    def metric(self) -> str: ...

    @property
    def label(self) -> str: ...

    def learned_from(self, cells: Sequence[Cell]) -> str | None:
        """With labels: what is learned from and tested on, for people; None where there are none."""
        ...

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises UserError for what can be known to be wrong before a trial starts."""
        ...

    def trainers(self, cell: Cell) -> Speed | None:
        """What a group of trainers takes that `measure` starts; None where it computes in its process."""
        ...

    def measure(self, cell: Cell, share: Share, draws: Draws, progress: Progress) -> None:
        """What is still to be computed of a cell whose pre-training is finished. Raises UserError or
        RunFailed."""
        ...

    def value(self, cell: Cell) -> float | None:
        """From the cell's own files alone; None where it is not known yet."""
        ...


def objective_of(sweep: Sweep, cells: Sequence[Cell]) -> Objective:
    """The sweep's. Raises UserError where settings of it do not fit."""
    if sweep.objective == "finetune":
        return FinetuneTop1(sweep.name, on_named_pictures(sweep.finetune or Finetune(), cells))
    if sweep.objective == "knn":
        return KnnTop1(sweep.knn)
    return Skill(cells[0].recipe.run.reference_mask is not None)


def check_objective(objective: Objective, cells: Sequence[Cell]) -> None:
    """Raises UserError for what can be known to be wrong before a trial starts, also where what ranks it
    asks for more trainers than a trial has room for."""
    objective.check(cells)
    for cell in _one_of_each(cells):
        trainers, ours = objective.trainers(cell), cell.recipe.speed.most_workers
        if trainers is not None and trainers.most_workers > ours:
            raise UserError(
                f"finetune: speed.workers={trainers.most_workers}, and a trial takes as much of the "
                f"cluster as its pre-training, speed.workers={ours}; write finetune: {{set: "
                f"{{speed.workers: {ours}}}}}"
            )


def known_value(objective: Objective, cell: Cell) -> float | None:
    """What a cell is worth; None also for a damaged file, which is a failure of that cell alone."""
    try:
        return objective.value(cell)
    except UserError:
        return None


def _one_of_each(cells: Sequence[Cell]) -> list[Cell]:
    """Of each model and number of trainers: what fine-tuning asks of a cell is the same for all of them."""
    kinds = {
        (cell.recipe.model.model_dump_json(), cell.recipe.speed.most_workers): cell
        for cell in reversed(cells)
    }
    return list(kinds.values())


def progress_metric(cells: Sequence[Cell]) -> str:
    """What every validation tells, and trials may be ended by."""
    return Skill(cells[0].recipe.run.reference_mask is not None).metric


@dataclass(frozen=True)
class Skill:
    """Satisfies `Objective`: 1 - loss / nearest-pixel fill on held-out pictures, in the end of the run."""

    under_reference: bool

    @property
    def metric(self) -> str:
        return "val/reference_skill" if self.under_reference else "val/skill"

    @property
    def label(self) -> str:
        return "skill under the reference mask" if self.under_reference else "skill"

    def learned_from(self, cells: Sequence[Cell]) -> None:
        return None

    def check(self, cells: Sequence[Cell]) -> None:
        pass  # the grid has seen to it

    def trainers(self, cell: Cell) -> Speed | None:
        return None

    def measure(self, cell: Cell, share: Share, draws: Draws, progress: Progress) -> None:
        pass  # the run itself has

    def value(self, cell: Cell) -> float | None:
        record = cell.record()
        if record is None or record["status"] != "finished":
            return None
        value: float | None = record["final"].get(self.metric)
        return value


@dataclass(frozen=True)
class FinetuneTop1:
    """Satisfies `Objective`: top-1 after the last epoch of a fine-tuning from the run's last checkpoint."""

    sweep: str
    settings: Finetune
    metric = "finetune/top1"
    label = "fine-tuned top-1"

    def learned_from(self, cells: Sequence[Cell]) -> str:
        data = self.recipe(cells[0], None).data
        return said(data.train, data.val)

    def check(self, cells: Sequence[Cell]) -> None:
        from mimray.train.prepare import check_warmup, open_data
        from mimray.train.tasks.check_finetuning import check_names

        for setting in self.settings.set:
            if setting in _OF_SWEEP:
                raise UserError(f"finetune: the sweep sets {setting} itself; leave it out")
        for cell in _one_of_each(cells):
            try:
                check_names(self.recipe(cell, None))
            except UserError as error:
                raise UserError(f"finetune, cell {cell.words}: {error}") from None
        recipe = self.recipe(cells[0], None)
        begun = [record for cell in cells if (record := self._readable(cell)) is not None]
        try:
            job = open_data(recipe)
            if not begun:
                check_warmup(recipe, len(job.rows))
        except UserError as error:
            error.args = (f"finetune: {error}",)  # of its own kind still
            raise
        for record in begun:
            _check_pictures(record, job.pictures_digest)

    def _readable(self, cell: Cell) -> dict[str, Any] | None:
        """The record of its fine-tuning; a damaged file is a failure of that cell alone."""
        try:
            return self._record(cell)
        except UserError:
            return None

    def trainers(self, cell: Cell) -> Speed | None:
        recipe = self.recipe(cell, None)
        return None if trains_here(recipe) else recipe.speed

    def measure(self, cell: Cell, share: Share, draws: Draws, progress: Progress) -> None:
        from mimray.train.launch import launch

        recipe, here = placed(self.recipe(cell, RunFolder.of(cell.recipe).uri), share)
        launch(recipe, progress, draws.loss, here=here)

    def value(self, cell: Cell) -> float | None:
        record = self._record(cell)
        if record is None or record["status"] != "finished":
            return None
        value: float = record["final"][finetuned_metric(record["final"])]
        return value

    def _record(self, cell: Cell) -> dict[str, Any] | None:
        """Of the cell's fine-tuning. A table of many cells reads no recipe of those that have not begun."""
        if cell.record() is None:
            return None
        return RunFolder.of(self.recipe(cell, None)).record()

    def recipe(self, cell: Cell, run: str | None) -> FinetuneRecipe:
        """Of a cell; `run`: what it starts from, once that is there. The name is the same with and without,
        for the cell's name says it."""
        own = cell.recipe
        model = own.model.model_dump(include={"encoder", "image_size", "window"})
        recipe = plain = self._loaded(model)
        if run is not None:
            wanted = plain.model
            found = open_checkpoint(run, wanted.encoder, wanted.image_size, wanted.window)
            recipe = self._loaded(found.model)
        update: dict[str, Any] = {
            "name": f"{cell.name}-finetune-{plain.digest()[:8]}",
            "storage": storage_of(cell),
            "tracking": own.run.tracking,
            "experiment": self.sweep,
        }
        return recipe.model_copy(update={"run": recipe.run.model_copy(update=update)})

    def _loaded(self, model: dict[str, Any]) -> FinetuneRecipe:
        own = {f"model.{name}": value for name, value in model.items()}
        words = [*as_words(own), *as_words(self.settings.set)]
        return load_finetune_recipe(self.settings.recipe, words)


def _check_pictures(record: dict[str, Any], digest: str) -> None:
    """Raises UserError where a fine-tuning has begun on pictures of another digest."""
    # behind it stand the weights, which are the cell's own
    if not f"{record['data_digest']}-".startswith(f"{digest}-"):
        raise UserError(
            f"finetune: run {record['name']} has begun on other pictures than there are now; bring them "
            f"back as they were, or take another name or run.storage"
        )
