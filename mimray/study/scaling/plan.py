"""Everything about a study that is settled before a cell starts: its data, its steps, what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.opening import open_cells
from mimray.study.scaling.account import Account, Need, check_room, need_of
from mimray.study.scaling.cells import Laid, said
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.frozen import FrozenStep
from mimray.study.scaling.losses import LossesStep
from mimray.study.scaling.steps import FinetuneStep, Pretrain, Step, check_steps
from mimray.study.sweeps.sweep import Finetune
from mimray.train.resources import Node


def steps_of(laid: Laid, folder: StudyFolder) -> tuple[Step, ...]:
    """What is done with each cell, in order. `folder` knows how many pictures are compared."""
    study, data = laid.study, laid.base.data
    steps: list[Step] = [Pretrain(), LossesStep(folder.compared, folder.val)]
    if study.finetune is not None:
        pictures = {"data.train": data.train, "data.val": data.val, "data.upright": data.upright}
        settings = Finetune(recipe=study.finetune.recipe, set=pictures | study.finetune.set)
        steps.append(FinetuneStep(study.name, settings))
    for name, given in study.tasks.items():
        train, val = given.train or data.train, given.val or (None if given.train else data.val)
        steps.append(FrozenStep(name, train, val))  # type: ignore[arg-type]  # the study knows the names
    return tuple(steps)


def open_study(laid: Laid, folder: StudyFolder) -> tuple[Step, ...]:
    """Open the data of every subset and check every step; notes in `folder` how many pictures there are.

    Raises UserError in one line for a manifest of other data, pictures that have changed since a cell
    began, pictures without labels, and whatever else can be known to be wrong.
    """
    from mimray.mim.costs import model_on_paper
    from mimray.optim import parameter_count

    _check_named(laid)
    _open_pictures(laid, folder)
    for cell in {cell.values["model"]: cell for cell in laid.cells}.values():
        encoder = model_on_paper(cell.recipe).encoder
        folder.params[cell.values["model"]] = parameter_count(encoder.parameters())
    steps = steps_of(laid, folder)
    check_steps(steps, laid.cells)  # all of them: each may have begun on other pictures
    return steps


def _check_named(laid: Laid) -> None:
    """Raises UserError where a fine-tuning or a task would take the recipe's own pictures, and each subset
    is of others. What stands in `set` or behind the file has been named."""
    study, data = laid.study, laid.base.data
    subsets = {(cell.recipe.data.train, cell.recipe.data.val) for cell in laid.cells}
    unnamed = {"data.train", "data.val"} - set(study.set)
    if (data.train, data.val) in subsets:
        return
    taken = f"would take data.train={data.train} and data.val={data.val}, and no subset is of them"
    if study.finetune is not None and unnamed - set(study.finetune.set):
        raise UserError(
            f"study {study.name}: finetune {taken}; write finetune: {{set: {{data.train: URI, data.val: "
            f"URI}}}}, or set both behind the file"
        )
    for name, given in study.tasks.items():
        if given.train is None and unnamed - ({"data.val"} if given.val else set()):
            raise UserError(
                f"study {study.name}: tasks.{name} {taken}; write {name}: {{train: URI, val: URI}}, or set "
                f"both behind the file"
            )


def _open_pictures(laid: Laid, folder: StudyFolder) -> None:
    """Count them, and see that every cell can train on them."""
    name = f"study {laid.study.name}"
    jobs = open_cells(laid.cells, name, lambda cell: f"{name}, {said(cell)}")
    of_subset = {cell.values["data"]: jobs[cell.name] for cell in laid.cells}
    folder.images = {subset: len(job.rows) for subset, job in of_subset.items()}
    folder.val = len(jobs[laid.cells[0].name].val_rows)
    folder.compared = min(folder.val, *folder.images.values())


@dataclass
class Needs:
    """Of every step of every cell, on these hosts; asked once for each kind."""

    hosts: Sequence[Node]
    known: dict[tuple[str, str, str], Need] = field(default_factory=dict)

    def of(self, cell: Cell, step: Step) -> Need:
        """Raises UserError where the empty cluster has no room for it."""
        which = (cell.values["model"], cell.values["data"], step.name)
        if which not in self.known:
            recipe = step.training(cell)
            what = f"{said(cell)}, {step.name}"
            try:
                need = need_of(recipe, cell.recipe, self.hosts)
            except UserError as error:
                raise UserError(f"{what}: {error}") from None
            check_room(Account(self.hosts), need, what, cell.recipe.speed.placement)
            self.known[which] = need
        return self.known[which]

    def check(self, cells: Sequence[Cell], steps: Sequence[Step]) -> None:
        """All of them."""
        for cell in cells:
            for step in steps:
                self.of(cell, step)


def most_workers(laid: Laid, steps: Sequence[Step]) -> int:
    """Trainers of the largest group."""
    first = {cell.values["model"]: cell for cell in laid.cells}.values()
    recipes = [recipe for cell in first for step in steps if (recipe := step.training(cell))]
    return max(recipe.speed.most_workers for recipe in recipes)
