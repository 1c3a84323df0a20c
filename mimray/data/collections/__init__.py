"""The transfer suite's data sets, one file each, found by name. Nothing is ever downloaded.

Which pictures are trained on and which metric counts are conventions, stated with their sources in
docs/transfer_sets.md.
"""

from __future__ import annotations

import re
from typing import Literal

from mimray.data.collections.aircraft import AIRCRAFT
from mimray.data.collections.birdsnap import BIRDSNAP
from mimray.data.collections.caltech101 import CALTECH101
from mimray.data.collections.cars import CARS
from mimray.data.collections.check import check_apart, check_pair, check_split
from mimray.data.collections.cifar import CIFAR10, CIFAR100
from mimray.data.collections.cog import COG
from mimray.data.collections.collection import Collection, Metric, Split
from mimray.data.collections.dtd import DTD
from mimray.data.collections.flowers102 import FLOWERS102
from mimray.data.collections.food101 import FOOD101
from mimray.data.collections.inat2018 import INAT2018
from mimray.data.collections.listed import MultiLabelSource
from mimray.data.collections.pets import PETS
from mimray.data.collections.sun397 import SUN397
from mimray.data.collections.voc2007 import VOC2007
from mimray.data.sources import Source, open_source
from mimray.errors import UserError
from mimray.settings_errors import nearest

__all__ = [
    "COLLECTION",
    "COLLECTIONS",
    "Collection",
    "Metric",
    "MultiLabelSource",
    "Split",
    "check_apart",
    "check_pair",
    "check_split",
    "find_collection",
    "name_of",
    "open_pictures",
]

# In the order of the papers' tables: CoG, the twelve of Kornblith et al. (CVPR 2019), iNaturalist.
COLLECTIONS: dict[str, Collection] = {
    one.name: one
    for one in (
        *COG,
        *(FOOD101, BIRDSNAP, CARS, AIRCRAFT, PETS, CALTECH101, FLOWERS102, DTD, SUN397),
        *(CIFAR10, CIFAR100, VOC2007),
        INAT2018,
    )
}


def find_collection(name: str) -> Collection:
    """The data set of that name. Raises UserError, with the nearest one, where there is none."""
    if name not in COLLECTIONS:
        raise UserError(f"no data set {name!r}{nearest(name, list(COLLECTIONS))}")
    return COLLECTIONS[name]


COLLECTION = "collection:"
"""Begins a URI of one of the transfer suite's sets: collection:dtd:/folder/of/all/sets."""


def open_pictures(uri: str, split: Literal["train", "val"]) -> Source:
    """A split of a transfer set, of which `val` is the test, or what `open_source` finds.

    Raises UserError as `open_source` and `Collection.open` do.
    """
    if not uri.startswith(COLLECTION):
        return open_source(uri, split)
    name, colon, root = uri.removeprefix(COLLECTION).partition(":")
    if not colon or not root:
        raise UserError(f"{uri}: write it like collection:dtd:/folder/of/all/sets")
    return find_collection(name).open(root, "train" if split == "train" else "test")


_OF_A_SPLIT = re.compile(r"(train|val|validation|test)([-_.].*)?")


def name_of(uri: str) -> str:
    """What tables and metrics call the pictures at a URI: a transfer set by its name, others by the last
    part of the path that tells more than the split. Letters, digits and `._-`."""
    if uri.startswith(COLLECTION):
        return uri.removeprefix(COLLECTION).partition(":")[0]
    path = uri.partition("?")[0] if "://" in uri else uri.removeprefix("builtin:")
    parts = [part for part in path.split("/") if part]
    telling = [part for part in parts if not _OF_A_SPLIT.fullmatch(part)] or parts
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "".join(telling[-1:])).strip("-._") or "set"
