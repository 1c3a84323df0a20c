"""Which of a table's columns is which, and its cells as texts, counts and measured values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from mimray.errors import UserError
from mimray.study.reading.table_file import Row

T = TypeVar("T")

TOP1 = "top1"

_NEEDED = {
    "model": ("encoder", "model.encoder"),
    "data": ("subset", "data.subset"),
    "iterations": ("length", "steps"),
    "val_loss": ("val/loss",),
}
_OPTIONAL = {
    TOP1: ("finetune/top1",),
    "train_loss": ("train/loss",),
    "params": ("parameters",),
    "images": (),
    "source": (),
}
_TASKS = ("inat18", "ade20k", "coco")  # the paper's others, beside names like depth/rmse
_NO_TASKS = ("train", "val", "speed", "run")  # what stands before the slash of other metrics
_COUNT = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*(?P<unit>[kKMBG]?)(?:it)?")
_UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}


class Columns:
    """The columns of a file by our names, whatever their case and the blanks around them.

    Of a column's several names the first that is there counts. `tasks`: other tasks than top-1. Raises
    UserError where a needed column is missing, or one that is read stands twice.
    """

    def __init__(self, file: Path, header: Sequence[str]) -> None:
        self.file = file
        self._names: dict[str, str] = {}
        for name, others in (_NEEDED | _OPTIONAL).items():
            called = [[c for c in header if _plain(c) == n] for n in (name, *others)]
            if found := next(filter(None, called), None):
                self._names[name] = self._only(found)
        if missing := [name for name in _NEEDED if name not in self._names]:
            needed = ", ".join(_NEEDED)
            raise UserError(f"{file}: has no column {missing[0]}; a study's table needs {needed}")
        asked: dict[str, list[str]] = {}
        for column in header:
            if column not in self._names.values() and _is_task(_plain(column)):
                task = _plain(column) if "/" not in column else column.strip()
                asked.setdefault(task, []).append(column)
        self.tasks = tuple(asked)
        self._names |= {task: self._only(found) for task, found in asked.items()}

    def _only(self, found: Sequence[str]) -> str:
        if len(found) > 1:
            raise UserError(f"{self.file}: column {found[0].strip()} stands twice; give it once")
        return found[0]

    def shown(self, row: Row, name: str) -> str:
        """The cell as it stands there; empty where there is none."""
        value = row.cells.get(self._names.get(name, name))
        return "" if value is None else str(value).strip()

    def read(self, row: Row, name: str, how: Callable[[str], T | None]) -> T | None:
        """The cell's value, None for an empty one. Raises UserError, with its place, for what cannot be."""
        text = self.shown(row, name)
        try:
            return how(text) if text else None
        except ValueError as why:
            raise self.error(row, name, f"{text!r} {why}") from None

    def needed(self, row: Row, name: str, how: Callable[[str], T | None]) -> T:
        """The value of a cell that may not be empty, for it says which run this is."""
        value = self.read(row, name, how)
        if value is None:
            raise self.error(row, name, "is empty; every row needs model, data and iterations")
        return value

    def error(self, row: Row, name: str, said: str) -> UserError:
        """What is wrong with a cell, and where it stands."""
        return UserError(f"{self.file}: {row.where}: {self._names[name].strip()} {said}")


def _plain(column: str) -> str:
    return column.strip().lower()


def _is_task(column: str) -> bool:
    kind, slash, _ = column.partition("/")
    return column in _TASKS or bool(slash and kind not in _NO_TASKS)


# ----- what a cell says -----------------------------------------------------------------------------------


def as_number(text: str) -> float:
    """A number, also one that is not finite."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("is not a number; write it like 0.42") from None


def as_measured(text: str) -> float | None:
    """A finite number; None for one that is not."""
    number = as_number(text)
    return number if math.isfinite(number) else None


def as_top1(text: str) -> float | None:
    """An accuracy as it stands, `65%` as 0.65. None for what is not finite."""
    number = as_measured(text.removesuffix("%"))
    if number is not None and not 0.0 <= number <= 100.0:
        raise ValueError("is no accuracy; it lies between 0 and 100 percent")
    return number / 100 if number is not None and text.endswith("%") else number


def as_count(text: str) -> float | None:
    """How many, also as `125k`, `49M`, `1.06B` or `125000it`; None for `nan`."""
    if text.lower() == "nan":
        return None
    match = _COUNT.fullmatch(text)
    if match is None:
        raise ValueError("is not a count; write it like 125000, 125k or 49M")
    number = float(match["number"]) * _UNITS[match["unit"]]
    if round(number) < 1:
        raise ValueError("is too small; it takes 1 at least")
    return number
