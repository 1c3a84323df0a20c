"""What a classification needs of its data, before anything is trained: labels, and all classes."""

from __future__ import annotations

import numpy as np

from mimray.data.collections.listed import ListedSource, MultiLabelSource
from mimray.data.sources import Source
from mimray.errors import UserError


class Unlabelled(UserError):
    """Pictures without labels, where labels are asked for."""


def check_split(source: Source, classes: int | None = None) -> np.ndarray:
    """How many pictures show each class: int64 (classes,), none of them 0 but where a source is `partial`.

    `classes`: how many there have to be. Raises UserError, in one line, for a source without
    pictures or labels, another number of classes or a single one, a label out of range, or a class
    without pictures.
    """
    if len(source) == 0:
        raise UserError(f"{source.uri}: holds no pictures")
    if source.classes is not None and classes not in (None, len(source.classes)):
        raise UserError(f"{source.uri}: {len(source.classes)} classes instead of {classes}")
    counts = (
        _multi_counts(source) if isinstance(source, MultiLabelSource) else _counts(source, classes)
    )
    if len(counts) < 2:
        raise UserError(f"{source.uri}: has one class; a classification needs two or more")
    if isinstance(source, ListedSource) and source.partial:
        return counts
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        raise UserError(
            f"{source.uri}: no pictures of {_class(source, int(empty[0]))} "
            f"({empty.size} of {len(counts)} classes are empty); add some, or leave the class out"
        )
    return counts


def check_apart(train: Source, test: Source) -> None:
    """Raises UserError, in one line, for two splits that are the same pictures."""
    if train.digest == test.digest:
        raise UserError(
            f"{train.uri} and {test.uri} are the same pictures; a test needs others than were trained "
            f"on: name a folder with train/ and val/ in it, or another URI for each"
        )


def check_pair(train: Source, test: Source, classes: int | None = None) -> int:
    """The number of classes of two splits that fit together.

    `classes`: how many there have to be, as of a head. Raises UserError, in one line, for splits that
    are the same pictures, whose classes differ, or of which one fails `check_split`.
    """
    check_apart(train, test)
    if train.classes is not None and test.classes is not None and train.classes != test.classes:
        raise UserError(_differ(train, test, train.classes, test.classes))
    known = [_known(source, len(train) + len(test)) for source in (train, test)]
    number = max(known) if classes is None else classes
    for source in (train, test):
        check_split(source, number)
    return number


def _known(source: Source, pictures: int) -> int:
    """How many classes a source tells of, by their names or by its highest label.

    Raises UserError for a label as high as there are `pictures`: some class has none then, and counters
    of labels like 10^12 would not fit into memory.
    """
    if source.classes is not None:
        return len(source.classes)
    labels = source.labels()
    if labels is None or not len(labels):
        return 0
    highest = int(labels.max())
    if highest >= pictures:
        raise UserError(
            f"{source.uri}: labels go up to {highest}, and there are {pictures:,} pictures; number the "
            f"classes from 0 without gaps"
        )
    return highest + 1


def _counts(source: Source, classes: int | None) -> np.ndarray:
    labels = source.labels()
    if labels is None:
        raise Unlabelled(
            f"{source.uri}: has no labels; a classification needs a folder for each class (cats/1.jpg) "
            f"or a column `label` of integers, not of text"
        )
    number = max(_known(source, len(source)), 1) if classes is None else classes
    wrong = np.flatnonzero((labels < 0) | (labels >= number))
    if wrong.size:
        row = int(wrong[0])
        raise UserError(
            f"{source.uri}: label {labels[row]} of {source.name(row)} is not one of 0 to {number - 1} "
            f"({wrong.size:,} of {len(labels):,} pictures); correct them or leave them out"
        )
    return np.bincount(labels, minlength=number)


def _multi_counts(source: MultiLabelSource) -> np.ndarray:
    return (source.multi_labels() == 1).sum(axis=0, dtype=np.int64)


def _class(source: Source, number: int) -> str:
    return f"class {number}" if source.classes is None else f"class {source.classes[number]!r}"


def _differ(train: Source, test: Source, first: list[str], second: list[str]) -> str:
    for here, there, names in (
        (train, test, sorted(set(first) - set(second))),
        (test, train, sorted(set(second) - set(first))),
    ):
        if names:
            seen, lacking = ("train", "test") if here is train else ("test", "train")
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return (
                f"class {names[0]!r}{more} is among the pictures to {seen} on ({here.uri}) and not among "
                f"those to {lacking} on ({there.uri}); add pictures of it, or leave it out of both"
            )
    return f"{train.uri} and {test.uri}: the same classes in another order; number them alike"
