"""`mimray evaluate linear|knn`: features, scores, and the record of both."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import fs

from mimray import __version__
from mimray.data.collections import (
    COLLECTION,
    MultiLabelSource,
    check_pair,
    find_collection,
    name_of,
    open_pictures,
)
from mimray.data.files import absolute, write_atomic
from mimray.data.sources import Source
from mimray.data.subset import choose
from mimray.errors import UserError
from mimray.evaluate import probing
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.extraction import Extraction
from mimray.evaluate.workers import OpenWorkers, Say
from mimray.shares import labels_share, of_labels
from mimray.train.parent import Finding, tell_finding
from mimray.train.run_folder import to_json

Draw = Callable[[list[dict[str, Any]], str], bytes]
"""Rows of the table and a title -> PNG of accuracy over layers."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is to be found out. `layers`: all, last, or names with commas; `labels`: a share of every
    class that is trained on, or None for all; `upright`: as `data.upright`; `storage`: a local folder;
    `name`: of the record's folder, by default one that follows from all that the answer depends on."""

    kind: probing.Kind
    checkpoint: Checkpoint
    data: str
    val: str
    storage: Path
    layers: str = "all"
    pooling: str = "mean"
    labels: str | None = None
    upright: bool = False
    seed: int = 0
    name: str | None = None

    def answer(self, draw: Draw, say: Say, workers: OpenWorkers) -> tuple[Record, bool]:
        """The record, and whether it was there already. MLflow is told either way, for it may have been
        away. Raises UserError or RunFailed."""
        record, already = self._answer(draw, say, workers)
        tell_finding(self.checkpoint.weights, _finding(record))
        return record, already

    def _answer(self, draw: Draw, say: Say, workers: OpenWorkers) -> tuple[Record, bool]:
        if (record := self.record()) is not None:
            return record, True
        opened = _Opened(self)
        name = self.name or opened.name
        place = self._place(name)
        if (record := read_record(place)) is not None:
            return record, True
        say(f"{name}: {len(opened.rows)} pictures to learn from, {len(opened.test)} to test")
        train, test = opened.extractions()
        with workers() as group:
            readable = [len(group.extract(extraction).rows) for extraction in (train, test)]
            if damaged := len(opened.rows) + len(opened.test) - sum(readable):
                say(f"{name}: {damaged} of them cannot be read; `mimray data inspect` tells which")
            rows = group.call(probing.score, self.kind, train, test, opened.classes, self.seed)
        named: Record = {"name": name, "uri": str(place)}
        record = named | opened.record(rows, *readable)
        local = fs.LocalFileSystem()
        write_atomic(local, str(place / "accuracy.png"), draw(rows, _title(record)))
        data = to_json(record, indent=2).encode() + b"\n"
        write_atomic(local, str(place / "result.json"), data)
        return record, False

    def record(self) -> Record | None:
        """The record of a question that has a name, if it is there."""
        return None if self.name is None else read_record(self._place(self.name))

    def _place(self, name: str) -> Path:
        return self.storage / "evaluate" / name


class _Opened:
    """A question whose data and encoder have been looked at."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.train = open_pictures(question.data, "train")
        self.test = open_pictures(question.val, "val")
        self.classes = check_pair(self.train, self.test)
        if question.kind == "knn" and isinstance(self.train, MultiLabelSource):
            raise UserError(
                f"{question.data}: its pictures have several labels, and neighbours vote for one; "
                f"take `evaluate linear`"
            )
        self.rows = _rows(self.train, question)
        self.layers = _layers(question)

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that the answer depends on."""
        asked, (train, test) = self.question, self.extractions()
        about = {"train": train.about, "val": test.about, "layers": self.layers}
        drawn = {"seed": asked.seed} if asked.kind == "linear" else {}  # neighbours draw nothing
        return {"format": probing.FORMAT, "kind": asked.kind, **about, **drawn}

    @property
    def name(self) -> str:
        """Of the record's folder."""
        told = json.dumps(self.about, sort_keys=True).encode()
        return f"{self.question.kind}-{hashlib.sha256(told).hexdigest()[:8]}"

    def extractions(self) -> tuple[Extraction, Extraction]:
        """Of the pictures to learn from, and of those to test."""
        asked = self.question
        what = (self.layers, asked.pooling, asked.storage / "features", asked.upright)
        return (
            Extraction(asked.checkpoint, self.train, self.rows, *what),
            Extraction(asked.checkpoint, self.test, np.arange(len(self.test)), *what),
        )

    def record(self, rows: probing.Rows, train: int, test: int) -> Record:
        """What `result.json` says. `train`, `test`: pictures that could be read."""
        asked, checkpoint = self.question, self.question.checkpoint
        return {
            "kind": asked.kind,
            "weights": checkpoint.weights,
            "encoder": checkpoint.encoder,
            "image_size": checkpoint.image_size,
            "window": checkpoint.window,
            "pooling": asked.pooling,
            "data": asked.data,
            "val": asked.val,
            "labels": asked.labels,
            "upright": asked.upright,
            "seed": asked.seed,
            "classes": self.classes,
            "photos": {"train": train, "val": test},
            "unreadable": {"train": len(self.rows) - train, "val": len(self.test) - test},
            "layers": rows,
            "chosen": probing.chosen(rows),
            "digests": self.about,
            "mimray": __version__,
            "time": time.time(),
        }


def absolute_data(uri: str) -> str:
    """Paths mean the same in every process; builtin: and collection: are no paths."""
    return uri if uri.startswith(("builtin:", COLLECTION)) else absolute(uri)


def _title(record: Record) -> str:
    """Of the figure: what was asked, and how many pictures its accuracies rest on."""
    share = "" if record["labels"] is None else f", {record['labels']} of the labels"
    return (
        f"{record['name']}: {record['encoder']} on {Path(record['val']).name}, "
        f"{record['photos']['val']} test pictures{share}"
    )


def read_record(place: Path) -> Record | None:
    """A finished record, or None."""
    try:
        record: Record = json.loads((place / "result.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(f"{place / 'result.json'} is damaged; remove it") from None
    return record


def _finding(record: Record) -> Finding:
    """For MLflow. The score is named by the pictures that it is of, for others do not compare."""
    kind, chosen, place = record["kind"], record["chosen"], Path(record["uri"])
    data, metric = name_of(record["data"]), "top1"
    if record["data"].startswith(COLLECTION):
        metric = find_collection(data).metric
    name = f"{kind}/{data}/{metric}{of_labels(record['labels'])}"
    files = {"result.json": place / "result.json", "figures/accuracy.png": place / "accuracy.png"}
    sections = {
        "evaluate": ("kind", "pooling", "seed"),
        "data": ("data", "val", "labels", "upright"),
        "model": ("encoder", "image_size", "window", "weights"),
    }
    params = {f"{section}.{n}": record.get(n) for section, own in sections.items() for n in own}
    return Finding(
        kind="evaluation",
        name=record["name"],
        uri=record["uri"],
        time=record["time"],
        params=params | {"evaluate.layer": chosen["layer"]},
        scores={name: chosen[metric]},
        files={name: file.read_bytes() for name, file in files.items() if file.is_file()},
    )


def _rows(source: Source, question: Question) -> np.ndarray:
    """What is learned from: the rows that a fine-tuning with `data.labels` has."""
    asked, fraction = question.labels, labels_share(question.labels)
    if not 0.0 < fraction <= 1.0:
        raise UserError(f"--labels {asked}: is not a share; write it like 10% or 0.1, above 0")
    if fraction == 1.0:
        return np.arange(len(source))
    if isinstance(source, MultiLabelSource):
        raise UserError(
            f"--labels {asked}: a share is taken of each class, and pictures of {question.data} have "
            f"several labels; leave it out"
        )
    return choose(source, fraction, stratified=True).rows()


def _layers(question: Question) -> tuple[str, ...]:
    """Layers by name, in the encoder's order, tried on one black picture.

    Raises UserError for a layer or pooling that the encoder has not, and for weights that do not fit.
    """
    import torch

    from mimray.downstream.features import LAST, layer_names, pooled_features

    checkpoint, asked = question.checkpoint, question.layers
    encoder = checkpoint.build()
    names = {"all": layer_names(encoder), "last": [LAST]}.get(asked)
    if names is None:
        names = list(dict.fromkeys(name.strip() for name in asked.split(",")))
        names.sort(key=lambda name: [*layer_names(encoder), name].index(name))
    black = torch.zeros(1, 3, checkpoint.image_size, checkpoint.image_size)
    try:
        pooled_features(encoder, black, names, question.pooling)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"--layers {asked} --pooling {question.pooling}: {error}") from None
    return tuple(names)
