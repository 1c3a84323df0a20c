"""Everything that can be known to be wrong before Ray starts, and the job when nothing is."""

from __future__ import annotations

import math

import numpy as np

from mimray.data.collections import open_pictures
from mimray.data.files import join
from mimray.data.inspect import look_at, rows_to_look_at
from mimray.data.node_cache import NodeCache
from mimray.data.order import held_out
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.data.subset import digest, select
from mimray.durations import Clock
from mimray.errors import UserError
from mimray.recipe import FinetuneRecipe, Recipe, TrainingRecipe
from mimray.train.files import check_files
from mimray.train.job import Job
from mimray.train.parent import check_address
from mimray.train.run_folder import RunFolder
from mimray.train.task import Task
from mimray.train.tasks.check_finetuning import check_classifier, check_names, open_labels
from mimray.train.tasks.check_pretraining import check_model
from mimray.train.tasks.classification import Classification
from mimray.train.tasks.pretraining import Pretraining

_SAMPLE = 256  # pictures that are decoded as a check; all of a set that is not larger


class FewerThanABatch(UserError):
    """So many `photos` are too few to train on."""

    def __init__(self, line: str, photos: int) -> None:
        super().__init__(line)
        self.photos = photos


def prepare(recipe: TrainingRecipe) -> Job:
    """Check the recipe against the model, the data and the run folder; open the data.

    Raises UserError for the first thing that is wrong. Writes nothing but a probe of the storage.
    """
    if isinstance(recipe, Recipe):
        check_model(recipe)
    elif isinstance(recipe, FinetuneRecipe):
        check_names(recipe)
    job = open_data(recipe)
    if isinstance(job.task, Classification):
        check_classifier(job.task)
    check_run(job)
    return job


def open_data(recipe: TrainingRecipe) -> Job:
    """Open training and validation pictures and hold out what is to be held out."""
    data = recipe.data
    train = open_pictures(data.train, "train")
    rows = RowSet.everything(len(train)) if data.subset is None else select(data.subset, train)
    chosen = len(rows)
    if data.val is None:
        gone = held_out(len(train), data.val_fraction, data.val_seed)
        val, val_rows = train, gone.rows()
        rows = rows.without(gone)
    else:
        val = open_pictures(data.val, "val")
        val_rows = np.arange(len(val))
    left_out = {"held out": chosen - len(rows)}
    task: Task
    if isinstance(recipe, FinetuneRecipe):
        task, labelled = open_labels(recipe, train, val, rows)
        left_out[f"left out by data.labels={recipe.data.labels}"] = len(rows) - len(labelled)
        rows = labelled
    else:
        assert isinstance(recipe, Recipe), "there are two kinds"
        task = Pretraining(recipe)
    _check_counts(recipe, rows, left_out, val_rows)
    check_pictures(train, "data.train", data.train, data.max_damaged)
    if data.val is not None:
        check_pictures(val, "data.val", data.val, data.max_damaged)
    cache = NodeCache(int(recipe.speed.cache_gib * 2**30)) if recipe.speed.cache_gib else None
    train.cache = val.cache = cache
    subset = None if data.subset is None else digest(rows)
    job = Job(task, RunFolder.of(recipe), train, val, rows, val_rows, subset)
    _ = job.clock  # durations resolve
    return job


def _check_counts(
    recipe: TrainingRecipe, rows: RowSet, left_out: dict[str, int], val: np.ndarray
) -> None:
    """A batch to train on, and something to validate on. `left_out`: how many pictures, by the reason."""
    data, batch = recipe.data, recipe.optim.batch
    if len(rows) < batch:
        without = _without(left_out, len(rows) + sum(left_out.values()))
        mend = f"set optim.batch={len(rows)} or lower" if len(rows) else "more pictures are needed"
        raise FewerThanABatch(
            f"data.train={data.train}: {len(rows)} photos to train on{without}, fewer than one batch "
            f"(optim.batch={batch}); {mend}",
            len(rows),
        )
    if not len(val):
        raise UserError(f"data.val={data.val}: holds no pictures")


def _without(left_out: dict[str, int], chosen: int) -> str:
    """` (7 of the 24 are held out)`, or nothing."""
    reasons = [(number, why) for why, number in left_out.items() if number]
    told = [f"{number} {'is' if number == 1 else 'are'} {why}" for number, why in reasons]
    if not told:
        return ""
    number, _, rest = ", ".join(told).partition(" ")
    return f" ({number} of the {chosen} {rest})"


def check_pictures(source: Source, setting: str, uri: str, limit: float) -> None:
    """Decode a sample (all of a small set); raises UserError when too many are unreadable.

    For a sample the limit is widened by four standard errors, so that a set within the limit passes.
    """
    rows = rows_to_look_at(source, _SAMPLE)
    whole = len(rows) == len(source)
    damaged = [look for looks in look_at(source, rows) for look in looks if look.reason]
    slack = 0.0 if whole else 4 * math.sqrt(limit * (1 - limit) / len(rows))
    if len(damaged) > (limit + slack) * len(rows):
        raise UserError(
            too_many_damaged(
                f"{setting}={uri}",
                [(source.name(look.row), look.reason) for look in damaged],
                len(rows),
                limit,
            )
        )


def too_many_damaged(data: str, pictures: list[tuple[str, str]], of: int, limit: float) -> str:
    """The line that says which pictures could not be read."""
    shown = "; ".join(f"{name}: {why}" for name, why in pictures[:10])
    more = f"; and {len(pictures) - 10} more" if len(pictures) > 10 else ""
    return (
        f"{data}: {len(pictures)} of {of} pictures cannot be read, more than "
        f"data.max_damaged={limit:g} ({shown}{more})"
    )


def check_run(job: Job) -> None:
    """The run's name is free, or taken by this very run; and what a new one is to do is sensible."""
    check_address(job.recipe.run.tracking)
    job.run.check_free()
    record = job.run.record()
    if record is None:
        check_warmup(job.recipe, len(job.rows))
        return
    name = job.recipe.run_name()
    if record["recipe_digest"] != job.recipe.digest():
        raise UserError(
            f"run.name={name} is taken by a run with other settings "
            f"({join(job.run.uri, 'recipe.yaml')}); choose another run.name"
        )
    check_files(record)
    if record["data_digest"] != job.data_digest:
        raise UserError(
            f"run.name={name} was started on other data than {job.recipe.data.train} holds now; "
            f"choose another run.name"
        )


def check_warmup(recipe: TrainingRecipe, photos: int) -> None:
    """Raises UserError where a run on so many photos would end before it reaches its learning rate."""
    batch, schedule = recipe.optim.batch, recipe.schedule
    bare = Clock(photos // batch, batch)
    total = bare.steps(schedule.length)
    if Clock(bare.steps_per_epoch, batch, total).steps(schedule.warmup) > total:
        raise UserError(
            f"schedule.warmup={schedule.warmup} is longer than the run, schedule.length={schedule.length} "
            f"({total} steps), so the learning rate would not reach optim.lr={recipe.optim.lr:g}; set "
            f"schedule.warmup=5%"
        )
