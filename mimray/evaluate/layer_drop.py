"""Fine-tuning without the last layers, as a grid of cells: a checkpoint, so many layers and a seed each.

Dark Secrets of MIM drops 2 to 8 of the last layers, loads those that remain and fine-tunes. A model that is
no worse without them had learned nothing there that the task needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimray.data.collections import (
    COLLECTION,
    check_apart,
    find_collection,
    name_of,
    open_pictures,
)
from mimray.errors import UserError
from mimray.evaluate.cells import Cell, Failures
from mimray.evaluate.frozen import absolute_data
from mimray.evaluate.suite import Suite, lay_out
from mimray.evaluate.table import table
from mimray.evaluate.table_files import Rows
from mimray.evaluate.transfer_sets import SEVERAL, TransferSet
from mimray.mim.encoders import ENCODERS
from mimray.mim.encoders.shortened import DropFrom, shortened_depths, stage_depths
from mimray.recipe import load_finetune_recipe
from mimray.settings_errors import nearest

_OWN = ("data.train", "data.val", "model.weights", "model.drop_layers", "model.drop_from",
        "run.name", "run.seed", "run.storage")  # fmt: skip
_PHOTOS = "builtin:photos/"


@dataclass(frozen=True)
class LayerDrop:
    """`suites`: for each count of layers dropped, all checkpoints and seeds."""

    name: str
    place: Path
    drop_from: DropFrom
    suites: dict[int, Suite]

    @property
    def cells(self) -> list[Cell]:
        """Of all counts, those of the whole encoder first."""
        return [cell for suite in self.suites.values() for cell in suite.cells]

    @property
    def counting(self) -> str:
        """Which layers are the last, for people."""
        if self.drop_from == "longest":
            return "from the end of the longest stage"
        return "from the last stage on, each of which keeps a block"


def lay_out_drops(
    task: str,
    weights: Sequence[str],
    data: TransferSet,
    drops: Sequence[int],
    drop_from: DropFrom,
    seeds: Sequence[int],
    recipe: str,
    overrides: Sequence[str],
    storage: Path,
) -> LayerDrop:
    """All cells, each with its recipe, every encoder built once at every length.

    Raises UserError in one line for a task, checkpoint or setting that does not fit, and for more layers
    than an encoder can do without.
    """
    if task not in TASKS:
        raise UserError(f"--task {task} is not known{nearest(task, list(TASKS))}")
    for override in overrides:
        if (name := override.partition("=")[0]) in _OWN:
            raise UserError(f"{override!r}: layer-drop sets {name} itself, for every run its own")
    if not drops or len(set(drops)) < len(drops):
        raise UserError(f"--drop {','.join(map(str, drops))}: each once")
    load_finetune_recipe(recipe, [])  # one for something else would blame model.drop_layers
    suites: dict[int, Suite] = {}
    for drop in sorted(drops, reverse=True):  # what cannot be dropped is told first
        more = [f"model.drop_layers={drop}", f"model.drop_from={drop_from}"] if drop else []
        words = [*overrides, *more]
        suites[drop] = TASKS[task](weights, data, seeds, recipe, words, storage)
    told = " ".join(suite.name for suite in suites.values()).encode()
    name = f"layer-drop-{hashlib.sha256(told).hexdigest()[:8]}"
    place = storage / "analyses" / name
    own = {drop: replace(suites[drop], name=name, place=place) for drop in sorted(drops)}
    return LayerDrop(name, place, drop_from, own)


LayOut = Callable[
    [Sequence[str], TransferSet, Sequence[int], str, Sequence[str], Path],
    Suite,
]
"""Checkpoints, pictures, seeds, recipe, overrides and storage -> their cells, at one length."""


def _classify(
    weights: Sequence[str],
    data: TransferSet,
    seeds: Sequence[int],
    recipe: str,
    overrides: Sequence[str],
    storage: Path,
) -> Suite:
    return lay_out(weights, [data], seeds, recipe, overrides, storage)


TASKS: dict[str, LayOut] = {"classify": _classify}


def find_pictures(data: str, val: str | None) -> TransferSet:
    """Pictures with labels to fine-tune on, and those to test.

    Raises UserError where one set would be both, and for pictures of several labels.
    """
    train, test = absolute_data(data), absolute_data(val or data)
    if val is None and data.startswith(_PHOTOS):
        test = f"{_PHOTOS}val"
    check_apart(open_pictures(train, "train"), open_pictures(test, "val"))
    if not train.startswith(COLLECTION):
        return TransferSet(name_of(train), train, test)
    collection = find_collection(name_of(train))
    if collection.metric == SEVERAL:
        raise UserError(f"--data {data}: its pictures have several labels; classify is for one")
    return TransferSet(collection.name, train, test, collection.metric)


# ----- table --------------------------------------------------------------------------------------------


def drop_rows(study: LayerDrop, failures: Failures) -> Rows:
    """A row for each checkpoint and count: `drop`, `remain` (blocks of every stage, like 2-2-17-1),
    `drop_from`, and what a suite's table says of it (`mimray.evaluate.table.Rows`)."""
    labels = next(iter(study.suites.values())).checkpoints
    rows = {drop: table(suite, failures) for drop, suite in study.suites.items()}
    return [
        {
            "drop": drop,
            "remain": _remain(study, drop, label),
            "drop_from": study.drop_from,
            **row,
        }
        for label in labels
        for drop in rows
        for row in rows[drop]
        if row["checkpoint"] == label
    ]


def _remain(study: LayerDrop, drop: int, label: str) -> str:
    encoder = study.suites[drop].recipes[label].model.encoder
    depths = stage_depths(ENCODERS[encoder].sizes)
    return "-".join(map(str, shortened_depths(depths, drop, study.drop_from)))
