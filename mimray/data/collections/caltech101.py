"""Caltech-101 (Fei-Fei et al., 2004): 30 pictures of each class to train on, all others to test."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source
from mimray.hashing import Purpose, key

_TRAIN = 30  # of each class


def _read(place: Place, split: Split) -> Source:
    """The set has no official split. The usual one draws 30 of each class, the background class too.

    (tensorflow/datasets, image_classification/caltech.py: 102 classes, 3,060 pictures.) Whose draw is
    part of a result, so this one is a hash of (class, place in it), the same everywhere.
    """
    members = defaultdict(list)
    for path in place.files("."):
        if path.lower().endswith(".jpg") and path.count("/") == 1:
            members[path.partition("/")[0]].append(path)
    classes = sorted(members)
    pictures, labels = [], []
    for label, name in enumerate(classes):
        drawn = key(Purpose.SUBSET, label, np.arange(len(members[name])))
        order = np.argsort(drawn, kind="stable")
        chosen = order[:_TRAIN] if split == "train" else order[_TRAIN:]
        pictures += [members[name][row] for row in chosen]
        labels += [label] * len(chosen)
    return place.source(pictures, np.array(labels, dtype=np.int64), classes)


CALTECH101 = Collection(
    name="caltech101",
    title="Caltech-101",
    page="https://data.caltech.edu/records/mzrjq-6wc02",
    folders=(
        "101_ObjectCategories",
        "caltech-101/101_ObjectCategories",
        "caltech101/101_ObjectCategories",
    ),
    layout=("CLASS/image_*.jpg (BACKGROUND_Google too)",),
    classes=102,
    metric="mean_per_class",
    read=_read,
)
