"""The cells of a suite: what each of them is, how it is run, and what its own record says of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mimray.data.collections import Metric
from mimray.errors import MimrayError, UserError
from mimray.evaluate.checkpoint import check_told
from mimray.evaluate.frozen import Draw, Question
from mimray.evaluate.score import finetuned_metric
from mimray.evaluate.workers import Here, Share
from mimray.recipe import FinetuneRecipe
from mimray.train.run_folder import RunFolder

WAITING, FAILED = "waiting", "failed"
_UNSEEN = "its record is not seen here; name a --storage that all hosts share"


class Outcome(NamedTuple):
    """What is known of a cell. `status`: waiting, or as in `run.json`; `score`: of its metric, and `best`
    of any evaluation, shares of 1; `test`: pictures; `time`: when the score was found."""

    status: str
    score: float | None = None
    best: float | None = None
    test: int | None = None
    time: float | None = None
    reason: str | None = None


class Cell(Protocol):
    """`checkpoint` and `set` as the table names them."""

    @property
    def checkpoint(self) -> str: ...

    @property
    def set(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def name(self) -> str:
        """Of its record."""
        ...

    @property
    def protocol(self) -> str:
        """How the score came about."""
        ...

    @property
    def group(self) -> str:
        """Cells of one group share files that one task writes."""
        ...

    def outcome(self) -> Outcome:
        """From the cell's own record alone."""
        ...

    def check(self) -> None:
        """Build and fill the model. Raises UserError for names, sizes or weights that do not fit."""
        ...

    def run(self, draws: Draws, share: Share) -> None:
        """Compute it to its end. Raises UserError or RunFailed."""
        ...


class Draws(NamedTuple):
    """Figures, which belong to a higher floor: of a run's loss, and of accuracy over layers."""

    loss: Draw
    layers: Draw


class Quiet:
    """Satisfies `Progress`; the table is what a suite says."""

    def say(self, text: str) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any], total: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class FinetuneCell:
    """Satisfies `Cell`: a fine-tuning from end to end, in one process."""

    checkpoint: str
    set: str
    seed: int
    metric: Metric
    recipe: FinetuneRecipe
    protocol = "fine-tuned"

    @property
    def name(self) -> str:
        return self.recipe.run_name()

    @property
    def group(self) -> str:
        return self.name

    def outcome(self) -> Outcome:
        run = RunFolder.of(self.recipe)
        try:
            record = run.record()
        except UserError as error:
            return Outcome(FAILED, reason=str(error))
        if record is None or record["recipe_digest"] != self.recipe.digest():
            return Outcome(WAITING)
        final, test = record["final"], record["photos"]["val"]
        if record["status"] != "finished":
            return Outcome(record["status"], test=test, reason=record.get("error"))
        name = finetuned_metric(final, self.metric)
        score, best = final.get(name), final.get(f"{name}_best")
        rows = run.rows()
        when = rows[-1]["time"] if rows else None
        return Outcome("finished", score, best, test, when)

    def run(self, draws: Draws, share: Share) -> None:
        from mimray.train.launch import launch

        launch(self._placed(share), Quiet(), draws.loss, here=True)

    def _placed(self, share: Share) -> FinetuneRecipe:
        """With what the task has."""
        speed = {
            "device": "gpu" if share.gpus else "cpu",
            "loader_processes": share.readers,
        }
        update = {"speed": self.recipe.speed.model_copy(update=speed)}
        return self.recipe.model_copy(update=update)

    def check(self) -> None:
        from mimray.train.tasks.check_finetuning import check_classifier, check_names
        from mimray.train.tasks.classification import Classification

        check_names(self.recipe)
        nothing = np.zeros(0, dtype=np.int32)
        task = Classification(self.recipe, 2, nothing, nothing)
        check_classifier(task)
        if task.report is not None:
            model = self.recipe.model
            check_told(str(model.weights), task.report, model.pretrained_windows)


@dataclass(frozen=True)
class ProbeCell:
    """Satisfies `Cell`: a linear probe of all layers' frozen features, of which the one that is best on
    held-out training pictures counts. Its question has a name."""

    checkpoint: str
    set: str
    seed: int
    metric: Metric
    question: Question
    protocol = "linear probe"

    @property
    def name(self) -> str:
        assert self.question.name is not None
        return self.question.name

    @property
    def group(self) -> str:
        """A checkpoint's features of a set are the same for all seeds."""
        return f"{self.checkpoint} {self.set}"

    def outcome(self) -> Outcome:
        try:
            record = self.question.record()
        except UserError as error:
            return Outcome(FAILED, reason=str(error))
        if record is None:
            return Outcome(WAITING)
        score = record["chosen"][self.metric]
        return Outcome("finished", score, score, record["photos"]["val"], record["time"])

    def check(self) -> None:
        self.question.checkpoint.build()

    def run(self, draws: Draws, share: Share) -> None:
        self.question.answer(draws.layers, lambda _: None, lambda: nullcontext(Here(share)))


Failures = dict[str, str]
"""Names of cells and why they failed, in a line each."""


def run_cells(cells: list[Cell], draws: Draws, share: Share) -> Failures:
    """Run cells one after another, in this process; one that fails leaves the others."""
    failures: Failures = {}
    for cell in cells:
        try:
            cell.run(draws, share)
        except MimrayError as error:
            failures[cell.name] = str(error)
    return failures


def run_all(
    cells: list[Cell],
    draws: Draws,
    share: Share,
    said: Callable[[list[Cell], Failures], None],
) -> Failures:
    """Run cells as Ray tasks, all scheduled together, each with its share of the cluster.

    `said` hears of the cells of each task that ends, and of those that failed. A task whose host is lost
    is started again by Ray, and its run goes on from its checkpoint.
    """
    import ray

    from mimray.evaluate.workers import finished, in_own_words

    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    task = ray.remote(**share.options())(_run)
    pending = {task.remote(group, draws, share): group for group in groups.values()}
    failures: Failures = {}
    for group, answer in finished(pending):
        if isinstance(answer, BaseException):  # no error of ours, or its process was ended
            reason = str(in_own_words(answer))
            answer = dict.fromkeys((cell.name for cell in group), reason)
        unseen = {c.name: _UNSEEN for c in group if c.outcome().status != "finished"}
        failed = {name: answer.get(name, reason) for name, reason in unseen.items()}
        failures |= failed
        said(group, failed)
    return failures


def _run(cells: list[Cell], draws: Draws, share: Share) -> Failures:
    import torch

    torch.set_num_threads(share.threads)
    return run_cells(cells, draws, share)
