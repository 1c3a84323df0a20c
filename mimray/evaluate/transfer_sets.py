"""The columns of a transfer suite: data sets of the suite by name, and any others by URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mimray.data.collections import COLLECTIONS, Collection, Metric, find_collection
from mimray.data.files import absolute
from mimray.errors import UserError

SEVERAL: Metric = "map11"
"""Of sets whose pictures have several labels: probed, for they cannot be fine-tuned on yet."""


@dataclass(frozen=True)
class TransferSet:
    """A column: `train` and `val` as `data.train` and `data.val` take them. `missing`: why it is left out,
    or None."""

    name: str
    train: str
    val: str
    metric: Metric = "top1"
    missing: str | None = None


def find_sets(names: str | None, root: str | None) -> list[TransferSet]:
    """Sets of the suite by name, and any others by URI; all of the suite's when `names` is None.

    A set of which no folder is below `root` is marked missing; what is wrong inside one is found when it
    is trained on. Raises UserError for an unknown name, and where none is there.
    """
    asked = list(COLLECTIONS) if names is None else [n.strip() for n in names.split(",")]
    if not all(asked):
        raise UserError(f"--sets {names!r}: one of the names is empty; write them like dtd,pets")
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
