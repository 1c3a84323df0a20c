"""A data set's own folder: reads its lists, and says in one line what is missing or damaged there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import fs

from mimray.data.collections.listed import ListedSource, MultiLabelSource
from mimray.errors import UserError


class Place:
    """The folder of one data set, which is called `title` and comes from `page`.

    Paths are relative to the folder, with slashes. Every method raises UserError, in one line.
    """

    def __init__(self, folder: Path, title: str, page: str, layout: Sequence[str]) -> None:
        self.folder, self.title, self.page, self.layout = folder, title, page, layout

    def error(self, what: str) -> UserError:
        return UserError(f"{self.title}: {what}; it comes from {self.page}")

    def require(self, path: str) -> None:
        """Raises UserError where a file is not there."""
        if not (self.folder / path).exists():
            raise self._missing(path)

    def text(self, path: str) -> list[str]:
        """The lines of a text file that are not empty."""
        try:
            text = (self.folder / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self._missing(path) from None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(path, error) from None
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            raise self.error(f"{self.folder / path} is empty")
        return lines

    def lines(self, path: str) -> list[str]:
        """The lines of a text file that are not empty, without blanks at their ends."""
        return [line.strip() for line in self.text(path)]

    def rows(self, path: str, fields: int) -> list[list[str]]:
        """The lines of a text file, split at blanks; the last field takes the rest of its line."""
        rows = [line.split(None, fields - 1) for line in self.lines(path)]
        for row in rows:
            if len(row) != fields:
                line = " ".join(row)
                raise self.error(f"{self.folder / path}: not {fields} words in line {line!r}")
        return rows

    def tabbed(self, path: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """The rows of a table whose fields are parted by tabs and named in its first line."""
        head, *rows = [line.rstrip("\r").split("\t") for line in self.text(path)]
        if set(columns) - set(head):
            raise self.error(f"{self.folder / path}: no columns {', '.join(columns)} in it")
        if any(len(row) != len(head) for row in rows):
            raise self.error(f"{self.folder / path}: not {len(head)} fields in every line")
        return [dict(zip(head, row, strict=True)) for row in rows]

    def json(self, path: str) -> Any:
        try:
            with open(self.folder / path, encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            raise self._missing(path) from None
        except (OSError, ValueError) as error:
            raise self._unreadable(path, error) from None

    def mat(self, path: str, name: str) -> np.ndarray:
        """A variable of a MATLAB file: an array of at least one dimension, those of size 1 left out."""
        from scipy.io import loadmat

        try:
            found = loadmat(self.folder / path, squeeze_me=True, variable_names=[name])
        except FileNotFoundError:
            raise self._missing(path) from None
        except Exception as error:  # a damaged file fails in many ways
            raise self._unreadable(path, error) from None
        if name not in found or not np.size(found[name]):
            raise self.error(f"{self.folder / path}: no variable {name!r} with anything in it")
        return np.atleast_1d(found[name])

    def files(self, path: str) -> list[str]:
        """Every file below a folder, in order."""
        if not (self.folder / path).is_dir():
            raise self._missing(path)
        return sorted(self._listing(path, recursive=True))

    def integers(self, path: str, values: Iterable[Any]) -> np.ndarray:
        """Whole numbers out of the file at `path`, as int64."""
        try:
            return np.array([int(value) for value in values], dtype=np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unreadable(path, error) from None

    def numbers(self, path: str, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
        """The classes' numbers, int64, of class names out of the file at `path`."""
        number = {name: i for i, name in enumerate(classes)}
        for name in names:
            if name not in number:
                raise self.error(
                    f"{self.folder / path}: {name!r} is not one of its {len(classes)} classes"
                )
        return np.array([number[name] for name in names], dtype=np.int64)

    def source(
        self, pictures: Sequence[str], labels: np.ndarray, classes: Sequence[str]
    ) -> ListedSource:
        """Pictures with their class each, int64 (n,), or int8 (n, classes) where they have several."""
        infos = self.infos(pictures)
        order = np.array(sorted(range(len(pictures)), key=pictures.__getitem__), dtype=np.int64)
        kind = MultiLabelSource if labels.ndim == 2 else ListedSource
        files = [infos[pictures[row]] for row in order]
        return kind(str(self.folder), files, labels[order], list(classes))

    def infos(self, paths: Sequence[str]) -> dict[str, fs.FileInfo]:
        """Size and time of listed files: every folder is listed once, as is quick on a network."""
        wanted = set(paths)
        found: dict[str, fs.FileInfo] = {}
        for parent in sorted({path.rpartition("/")[0] for path in wanted}):
            listing = self._listing(parent, recursive=False)
            found.update((path, info) for path, info in listing.items() if path in wanted)
        gone = sorted(wanted - found.keys())
        if gone:
            raise self.error(
                f"{len(gone):,} of {len(wanted):,} listed files are not there, the first is "
                f"{self.folder / gone[0]}; unpack them again"
            )
        return found

    def _listing(self, path: str, recursive: bool) -> dict[str, fs.FileInfo]:
        """The files in a folder, none where it is not there, by their paths."""
        selector = fs.FileSelector(
            str(self.folder / path), allow_not_found=True, recursive=recursive
        )
        try:
            infos = fs.LocalFileSystem().get_file_info(selector)
        except OSError as error:
            raise self._unreadable(path, error) from None
        start = len(str(self.folder)) + 1
        return {info.path[start:]: info for info in infos if info.type == fs.FileType.File}

    def _missing(self, path: str) -> UserError:
        return self.error(f"no {self.folder / path}; expected: {', '.join(self.layout)}")

    def _unreadable(self, path: str, error: Exception) -> UserError:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return self.error(f"{self.folder / path} is damaged or cannot be read ({line})")
