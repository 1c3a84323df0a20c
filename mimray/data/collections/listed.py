"""Pictures of a folder that are named one by one, with the labels that came with the names."""

from __future__ import annotations

import hashlib

import numpy as np
from pyarrow import fs

from mimray.data.sources.folder import FolderSource


class ListedSource(FolderSource):
    """Satisfies `Source`: one row a file, in order of path, with the label that it is given.

    `partial`: whether a class may be without pictures, for not all can be had any more.
    """

    kind = "listed pictures"
    partial = False

    def __init__(
        self, folder: str, files: list[fs.FileInfo], labels: np.ndarray, classes: list[str]
    ) -> None:
        """`files`: below `folder`, local, in order of path; `labels`: of each, numbers of `classes`."""
        super().__init__(folder, fs.LocalFileSystem(), folder, files)
        self.classes = classes
        self.given = labels.astype(np.int8 if labels.ndim == 2 else np.int32)  # a million are sent
        told = f"{self.digest}\n{classes}\n".encode() + self.given.tobytes()
        self.digest = hashlib.sha256(told).hexdigest()[:16]

    def labels(self) -> np.ndarray | None:
        return self.given.astype(np.int64)


class MultiLabelSource(ListedSource):
    """Pictures that show things of several classes, so that no one label is theirs."""

    def labels(self) -> np.ndarray | None:
        return None

    def multi_labels(self) -> np.ndarray:
        """What each picture shows: int8 (len, classes), 1 there, 0 not there, -1 difficult, which
        counts neither for nor against.
        """
        return self.given
