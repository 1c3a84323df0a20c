"""The columns of a transfer suite: data sets of the suite by name, and any others by URI."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mimray.data.collections import (
    COLLECTION,
    COLLECTIONS,
    Metric,
    check_apart,
    find_collection,
    name_of,
    open_pictures,
)
from mimray.data.files import absolute
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.frozen import absolute_data

SEVERAL: Metric = "map11"
"""Of sets whose pictures have several labels: probed, for they cannot be fine-tuned on yet."""


@dataclass(frozen=True)
class TransferSet:
    """A column: `train` and `val` as `data.train` and `data.val` take them. `missing`: why it is left out,
    or None; `digest`: of both, other pictures have another; empty where they cannot be opened."""

    name: str
    train: str
    val: str
    metric: Metric = "top1"
    missing: str | None = None
    digest: str = ""


def find_sets(names: str | None, root: str | None) -> list[TransferSet]:
    """Sets of the suite by name, and any others by URI; all of the suite's when `names` is None.

    A set of which no folder is below `root`, or not its lists, is marked missing, as is a URI that cannot
    be opened; what else is wrong inside one is found when it is trained on. Raises UserError for an
    unknown name, and where none is there.
    """
    asked = list(COLLECTIONS) if names is None else [n.strip() for n in names.split(",")]
    if not all(asked):
        raise UserError(f"--sets {names!r}: one of the names is empty; write them like dtd,pets")
    sets = [_find(name, root) for name in asked]
    if root is not None and not Path(root).expanduser().is_dir():
        raise UserError(
            f"--data {root}: there is no such folder; it is the one in which all sets lie"
        )
    if len({one.name for one in sets}) < len(sets):
        raise UserError(f"--sets {names}: two of them have one name")
    if all(one.missing for one in sets):
        others = ", ".join(one.name for one in sets[1:])
        more = f" (nor are {others} there)" if others else ""
        raise UserError(f"{sets[0].missing}{more}")
    return sets


def _find(name: str, root: str | None) -> TransferSet:
    if name.startswith(COLLECTION):
        name, colon, root = name.removeprefix(COLLECTION).partition(":")
        if not colon or not root:
            raise UserError(
                f"--sets {COLLECTION}{name}: write it like collection:dtd:/folder/of/all/sets"
            )
    elif name not in COLLECTIONS and (
        name.startswith("builtin:") or "/" in name or Path(name).exists()
    ):
        return _other(absolute_data(name))
    collection = find_collection(name)
    if root is None:
        raise UserError(f"--data: name the folder of all sets, in which {name} is looked for")
    base = absolute(root)
    uri = f"{COLLECTION}{name}:{base}"
    missing = collection.missing(base)
    digest = ""
    if not missing:
        with suppress(UserError):  # the cell says what is damaged
            digest = _digest(*_opened(uri))
    return TransferSet(name, uri, uri, collection.metric, missing, digest)


def _other(uri: str) -> TransferSet:
    """Pictures at a URI, which is left out where they cannot be opened or there are none to test on."""
    missing, digest = None, ""
    try:
        train, val = _opened(uri)
        digest = _digest(train, val)
        check_apart(train, val)
    except UserError as error:
        missing = str(error)
    return TransferSet(name_of(uri), uri, uri, missing=missing, digest=digest)


def _opened(uri: str) -> tuple[Source, Source]:
    return open_pictures(uri, "train"), open_pictures(uri, "val")


def _digest(train: Source, val: Source) -> str:
    return f"{train.digest} {val.digest}"
