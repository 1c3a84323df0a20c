"""Everything that can be known to be wrong before Ray starts, and the job when nothing is."""

from __future__ import annotations

import math

import numpy as np
import torch

from mimray.data.files import join
from mimray.data.inspect import look_at, rows_to_look_at
from mimray.data.node_cache import NodeCache
from mimray.data.order import held_out
from mimray.data.rowset import RowSet
from mimray.data.sources import Source, open_source
from mimray.data.subset import digest, select
from mimray.errors import UserError
from mimray.mim.build import build_model
from mimray.mim.encoders import ENCODERS
from mimray.mim.heads import HEADS
from mimray.mim.masks import STRATEGIES, realised_ratio
from mimray.mim.recomputing import check_stages
from mimray.mim.targets import TARGETS
from mimray.optim import official_decays
from mimray.recipe import Recipe
from mimray.settings_errors import nearest
from mimray.train.job import Job, check_target_files
from mimray.train.run_folder import RunFolder

_SAMPLE = 256  # pictures that are decoded as a check; all of a set that is not larger


def prepare(recipe: Recipe) -> Job:
    """Check the recipe against the model, the data and the run folder; open the data.

    Raises UserError for the first thing that is wrong. Writes nothing but a probe of the storage.
    """
    check_model(recipe)
    job = open_data(recipe)
    check_run(job)
    return job


def check_model(recipe: Recipe) -> None:
    """Names that must be known and sizes that must fit: the model is built, on no device."""
    for setting, value, known in (
        ("model.encoder", recipe.model.encoder, ENCODERS),
        ("mask.strategy", recipe.mask.strategy, STRATEGIES),
        ("head.kind", recipe.head.kind, HEADS),
        ("target.kind", recipe.target.kind, TARGETS),
    ):
        if value not in known:
            raise UserError(f"{setting}={value} is not known{nearest(value, list(known))}")
    spec, unit = ENCODERS[recipe.model.encoder], recipe.mask.unit
    if recipe.model.window is not None and spec.window is None:
        raise UserError(
            f"model.window={recipe.model.window}: {recipe.model.encoder} has no windows; "
            "leave it out (model.window=null)"
        )
    if unit % spec.patch:
        raise UserError(
            f"mask.unit={unit} is not a multiple of {recipe.model.encoder}'s patch {spec.patch}; "
            f"{recipe.units_to_take(spec.patch)}"
        )
    try:
        realised_ratio(recipe.mask.strategy, recipe.model.image_size, unit, recipe.mask.ratio)
        with torch.device("meta"):
            model = build_model(recipe)
        check_stages(model.encoder, recipe.speed.checkpoint_stages)
        if recipe.optim.like_official:
            official_decays(spec.family)
    except ValueError as error:
        raise UserError(str(error)) from None
    if unit % model.target.pixel:
        raise UserError(
            f"mask.unit={unit} hides positions of the target, {model.target.pixel} px each, in part; "
            f"take a multiple of {model.target.pixel}"
        )


def open_data(recipe: Recipe) -> Job:
    """Open training and validation pictures and hold out what is to be held out."""
    data = recipe.data
    train = open_source(data.train, "train")
    rows = RowSet.everything(len(train)) if data.subset is None else select(data.subset, train)
    chosen = len(rows)
    if data.val is None:
        gone = held_out(len(train), data.val_fraction, data.val_seed)
        val, val_rows = train, gone.rows()
        rows = rows.without(gone)
    else:
        val = open_source(data.val, "val")
        val_rows = np.arange(len(val))
    if len(rows) < recipe.optim.batch:
        held = chosen - len(rows)
        without = f" ({held} of {chosen} are held out)" if held else ""
        mend = f"set optim.batch={len(rows)} or lower" if len(rows) else "more pictures are needed"
        raise UserError(
            f"data.train={data.train}: {len(rows)} photos to train on{without}, fewer than one batch "
            f"(optim.batch={recipe.optim.batch}); {mend}"
        )
    if not len(val_rows):
        raise UserError(f"data.val={data.val}: holds no pictures")
    check_pictures(train, "data.train", data.train, data.max_damaged)
    if data.val is not None:
        check_pictures(val, "data.val", data.val, data.max_damaged)
    cache = NodeCache(int(recipe.speed.cache_gib * 2**30)) if recipe.speed.cache_gib else None
    train.cache = val.cache = cache
    subset = None if data.subset is None else digest(rows)
    job = Job(recipe, RunFolder.of(recipe), train, val, rows, val_rows, subset)
    _ = job.clock  # durations resolve
    return job


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
    """The run's name is free, or taken by this very run."""
    job.run.check_free()
    record = job.run.record()
    if record is None:
        return
    name = job.recipe.run_name()
    if record["recipe_digest"] != job.recipe.digest():
        raise UserError(
            f"run.name={name} is taken by a run with other settings "
            f"({join(job.run.uri, 'recipe.yaml')}); choose another run.name"
        )
    check_target_files(record)
    if record["data_digest"] != job.data_digest:
        raise UserError(
            f"run.name={name} was started on other data than {job.recipe.data.train} holds now; "
            f"choose another run.name"
        )
