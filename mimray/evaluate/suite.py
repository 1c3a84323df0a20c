"""A transfer suite as a grid of cells: a checkpoint, a data set and a seed each, all checked before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mimray.data.collections import COLLECTIONS, Collection, Metric, find_collection
from mimray.data.files import absolute
from mimray.errors import UserError
from mimray.evaluate.cells import Cell, FinetuneCell, ProbeCell
from mimray.evaluate.checkpoint import Checkpoint, open_checkpoint
from mimray.evaluate.frozen import Question
from mimray.recipe import FinetuneRecipe, load_finetune_recipe
from mimray.train.parent import CELL

SCRATCH = "scratch"
_OF_SUITE = ("data.train", "data.val", "model.weights", "run.name", "run.seed", "run.storage")
_OF_CHECKPOINT = ("encoder", "image_size", "window")  # what a setting may say instead


@dataclass(frozen=True)
class TransferSet:
    """A column: `train` and `val` as `data.train` and `data.val` take them. `missing`: why it is left out,
    or None."""

    name: str
    train: str
    val: str
    metric: Metric = "top1"
    missing: str | None = None


@dataclass(frozen=True)
class Suite:
    """Rows `checkpoints`, columns `sets`; `cells` of those that are there."""

    name: str
    place: Path
    checkpoints: dict[str, Checkpoint | None]
    sets: tuple[TransferSet, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]


def lay_out(
    weights: Sequence[str],
    sets: Sequence[TransferSet],
    seeds: Sequence[int],
    recipe: str,
    overrides: Sequence[str],
    storage: Path,
) -> Suite:
    """All cells, each with its recipe. The suite's name follows from them, whether sets are missing or not.

    Raises UserError in one line for a checkpoint or setting that does not fit.
    """
    for override in overrides:
        if (name := override.partition("=")[0]) in _OF_SUITE:
            raise UserError(f"{override!r}: the suite sets {name} itself, for every cell its own")
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**63 for seed in seeds):
        raise UserError(f"--seeds {','.join(map(str, seeds))}: each once, and from 0 on")
    load_finetune_recipe(recipe)  # a name that is none, or another kind of recipe, is told as such
    checkpoints = _checkpoints(weights, overrides)
    # from scratch the encoder is that of the others, or else the recipe's
    like = next((c for c in checkpoints.values() if c is not None), None)
    made = (
        _cell(
            (label, one.name, seed, one.metric), checkpoint, one, like, recipe, overrides, storage
        )
        for label, checkpoint in checkpoints.items()
        for one in sets
        for seed in seeds
    )
    cells = [cell for cell in made if cell is not None]
    told = json.dumps([[cell.set, cell.seed, cell.name] for cell in cells]).encode()
    name = f"semantic-{hashlib.sha256(told).hexdigest()[:8]}"
    missing = {one.name for one in sets if one.missing}
    there = tuple(cell for cell in cells if cell.set not in missing)
    for label in checkpoints:
        _check(next((c for c in there if c.checkpoint == label), None))
    place = storage / "suites" / name
    return Suite(name, place, checkpoints, tuple(sets), tuple(seeds), there)


# ----- columns ------------------------------------------------------------------------------------------


def find_sets(names: str | None, root: str | None) -> list[TransferSet]:
    """Sets of the suite by name, and any others by URI; all of the suite's when `names` is None.

    A set of which no folder is below `root` is marked missing; what is wrong inside one is found when it
    is trained on. Raises UserError for an unknown name, and where none is there.
    """
    asked = list(COLLECTIONS) if names is None else [n.strip() for n in names.split(",")]
    sets = [_find(name, root) for name in asked]
    if len({one.name for one in sets}) < len(sets):
        raise UserError(f"--sets {names}: two of them have one name")
    if all(one.missing for one in sets):
        more = f" (and {len(sets) - 1} more sets)" if len(sets) > 1 else ""
        raise UserError(f"{sets[0].missing}{more}")
    return sets


def _find(name: str, root: str | None) -> TransferSet:
    if name not in COLLECTIONS and ("/" in name or Path(name).exists()):
        uri = absolute(name)
        plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", uri.rstrip("/").rpartition("/")[2]).strip("-._=")
        return TransferSet(plain or "set", uri, uri)
    collection = find_collection(name)
    if root is None:
        raise UserError(f"--data: name the folder of all sets, in which {name} is looked for")
    base = absolute(root)
    uri = f"collection:{name}:{base}"
    return TransferSet(name, uri, uri, collection.metric, _missing(collection, base))


def _missing(collection: Collection, root: str) -> str | None:
    """Where a set comes from and how it is to lie, if it is not there."""
    if any((Path(root) / folder).is_dir() for folder in collection.folders):
        return None
    try:
        collection.open(root, "train")
    except UserError as error:
        return str(error)
    return None


# ----- rows ---------------------------------------------------------------------------------------------


def _checkpoints(weights: Sequence[str], overrides: Sequence[str]) -> dict[str, Checkpoint | None]:
    """By the name that stands in the table; None is from scratch."""
    given = _model_settings(overrides)
    opened = [None if one == SCRATCH else open_checkpoint(one, **given) for one in weights]
    names = [SCRATCH if one is None else one.name for one in opened]
    labels = [
        name if names.count(name) == 1 or one is None else one.weights
        for name, one in zip(names, opened, strict=True)
    ]
    if len(set(labels)) < len(labels):
        raise UserError("--from: one of the checkpoints is named twice")
    return dict(zip(labels, opened, strict=True))


def _model_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """What the command line says of the encoder, which wins over what a checkpoint tells."""
    words = (word.partition("=") for word in overrides)
    told = {
        name.removeprefix("model."): text for name, _, text in words if name.startswith("model.")
    }
    try:
        return {name: yaml.safe_load(told[name]) for name in _OF_CHECKPOINT if name in told}
    except yaml.YAMLError:
        return {}  # the recipe's reader says what is wrong


def _cell(
    where: tuple[str, str, int, Metric],
    checkpoint: Checkpoint | None,
    one: TransferSet,
    like: Checkpoint | None,
    recipe: str,
    overrides: Sequence[str],
    storage: Path,
) -> Cell | None:
    """A cell; None where there is nothing to score: the features of an encoder from scratch."""
    seed = where[2]
    if (
        one.metric == "map11"
    ):  # several labels a picture: probed, for it cannot be fine-tuned on yet
        if checkpoint is None:
            return None
        told = f"{checkpoint} {one.train} {seed}"
        name = f"{CELL}{one.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
        asked = Question("linear", checkpoint, one.train, one.val, storage, seed=seed, name=name)
        return ProbeCell(*where, asked)
    fits = checkpoint or like
    model = {} if fits is None else fits.model | {"weights": checkpoint and checkpoint.weights}
    settings = [
        *(f"model.{name}={json.dumps(value)}" for name, value in model.items()),
        *("speed.loader=torch", "speed.workers=1"),
        *overrides,
        *(f"data.train={json.dumps(one.train)}", f"data.val={json.dumps(one.val)}"),
        *(f"run.seed={seed}", f"run.storage={json.dumps(str(storage))}"),
    ]
    return FinetuneCell(*where, _named(load_finetune_recipe(recipe, settings), checkpoint, one))


def _named(
    recipe: FinetuneRecipe, checkpoint: Checkpoint | None, one: TransferSet
) -> FinetuneRecipe:
    """The cell's own name: the same cell of another suite is the same run, and other weights in the same
    place are another one."""
    told = f"{recipe.digest()} {checkpoint and checkpoint.digest}"
    name = f"{CELL}{one.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    run = recipe.run.model_copy(update={"name": name})
    return recipe.model_copy(update={"name": f"{CELL}{one.name}", "run": run})


def _check(cell: Cell | None) -> None:
    """Build a checkpoint's model and fill it, once. Raises UserError where it does not fit."""
    if isinstance(cell, FinetuneCell):
        cell.check()
    elif isinstance(cell, ProbeCell):
        cell.question.checkpoint.build()
