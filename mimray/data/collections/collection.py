"""What the transfer suite knows about a data set: where its files lie, its splits, its metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mimray.data.collections.check import check_split
from mimray.data.collections.listed import ListedSource
from mimray.data.collections.place import Place
from mimray.data.sources import Source
from mimray.errors import UserError

Split = Literal["train", "test"]
Metric = Literal["top1", "mean_per_class", "map11"]


@dataclass(frozen=True)
class Collection:
    """A public data set in the form in which people download and unpack it.

    `page`: where it is officially told of; nothing is ever downloaded.
    `folders`: what its folder may be called below the suite's root, the usual name first; of several
    that are there the last is taken.
    `layout`: the files that are read, relative to that folder.
    `lists`: those of them that come apart from the pictures; without one the set is not there.
    `classes`: how many it has.
    `metric`: 'top1' over all pictures, 'mean_per_class' the mean of the classes' own accuracies,
    'map11' the classes' mean average precision at 11 levels of recall.
    `read`: makes the source of a split from its folder.
    `refused`: the folder of a form that is not taken, and the line that says what to take.
    `partial`: whether not all its pictures can be had any more, so that a class may have none to test.
    """

    name: str
    title: str
    page: str
    folders: tuple[str, ...]
    layout: tuple[str, ...]
    classes: int
    metric: Metric
    read: Callable[[Place, Split], Source]
    refused: tuple[str, str] | None = None
    lists: tuple[str, ...] = ()
    partial: bool = False

    def missing(self, root: Path | str) -> str | None:
        """Why nothing can be opened below `root`, and how it is to lie: there is no folder, or it lacks
        one of its lists. None where they are there, whatever is wrong inside."""
        try:
            place = self._place(str(root))
            for path in self.lists:
                place.require(path)
        except UserError as error:
            return str(error)
        return None

    def open(self, root: Path | str, split: Split) -> Source:
        """A split with labels and class names, found below `root`, a local folder for all sets.

        'train' is all that may be trained on, validation pictures too; 'test' is held out. Raises
        UserError, in one line, when the set or a part of it is missing, damaged or not complete.
        """
        if split not in get_args(Split):
            raise UserError(f"{self.name}: no split {split!r}; there are train and test")
        place = self._place(str(root))
        source = self.read(place, split)
        if self.partial and split == "test":
            assert isinstance(source, ListedSource), "each of its pictures is a file of its own"
            source.partial = True
        try:
            check_split(source, self.classes)
        except UserError as error:
            raise place.error(f"split {split}, {error}") from None
        return source

    def _place(self, root: str) -> Place:
        if "://" in root:
            raise UserError(f"{root}: the suite's data sets are read from a local folder")
        base = Path(root).expanduser().absolute()
        for folder in reversed(self.folders):
            if (base / folder).is_dir():
                return Place(base / folder, self.title, self.page, self.layout)
        if self.refused and (base / self.refused[0]).is_dir():
            folder, why = self.refused
            raise UserError(f"{self.title}: {base / folder} {why} from {self.page}")
        names = " or ".join(f"{folder}/" for folder in self.folders)
        raise UserError(
            f"{self.title}: no {names} in {base}; get it from {self.page} and unpack it there, "
            f"expected in {self.folders[0]}/: {', '.join(self.layout)}"
        )
