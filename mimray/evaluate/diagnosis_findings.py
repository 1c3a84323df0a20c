"""What an analysis found, from all of its pieces, and the record of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from mimray import __version__
from mimray.errors import RunFailed, UserError
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.diagnosis_files import MAPS, unpacked_maps, versions
from mimray.evaluate.diagnosis_kinds import ROWS, Kind, Maps
from mimray.evaluate.diagnosis_shards import Piece
from mimray.evaluate.frozen import Record
from mimray.evaluate.table_files import Rows

if TYPE_CHECKING:
    from mimray.analysis.diagnostic import Diagnostic
    from mimray.evaluate.diagnosis import Analysis

_LABELS = ("model", "other_model")  # columns
_COUNTED = ("pictures", "unreadable", "left_out")


class Findings(NamedTuple):
    """What an analysis found. `models`: their labels, in order, and what is to be said of each; `tables`:
    rows that have a `model`, by the table's name; `maps`: of each model, by the layer's name; `notes`: the
    conventions."""

    models: dict[str, str]
    tables: dict[str, Rows]
    maps: dict[str, Maps]
    notes: dict[str, Any]


Draw = Callable[[Findings], dict[str, bytes]]
"""File names of figures and their PNG."""
Counts = dict[str, int]
"""Of pictures: looked at, unreadable, and left out because too few of their batch can be read."""


def join(analysis: Analysis) -> tuple[Findings, Counts]:
    """All pieces, added in their order, and of how many pictures of the source they are.

    Raises UserError where that is none, and RunFailed where a piece has gone.
    """
    kind, seen = analysis.kind, analysis.pictures
    findings = Findings(_said(analysis), {}, {}, {})
    counts = dict.fromkeys(_COUNTED, 0)
    for number, part in enumerate(analysis.parts):
        diagnostic, counts = _merged(analysis, number)
        if seen is not None and not counts["pictures"]:
            raise UserError(f"{seen.data}: {_why_none(kind, counts)}")
        first, last = part.models[0].label, part.models[-1].label
        named = {"model": first} | ({"other_model": last} if kind.pairs else {})
        for name, rows in kind.tables(diagnostic).items():
            findings.tables.setdefault(name, []).extend(named | row for row in rows)
        findings.maps[first] = kind.maps(diagnostic)
        findings.notes.update(diagnostic.conventions())
    if seen is not None:
        findings.notes.pop("images", None)  # which says it shorter
        findings.notes["pictures"] = f"{counts['pictures']} of {seen.data}, {seen.split} split"
    return findings, counts


def _merged(analysis: Analysis, number: int) -> tuple[Diagnostic, Counts]:
    part = analysis.parts[number]
    whole, one = part.build("cpu"), part.build("cpu")
    counts = dict.fromkeys(_COUNTED, 0)
    for shard in range(len(analysis.shards)):
        seen = analysis.kept(Piece(number, shard))
        if seen is None:  # whoever finishes first removes them
            raise RunFailed(
                f"{analysis.place}: its shards have gone, maybe because another process finished the same "
                "analysis; give the command again"
            )
        one.load(seen.state)
        whole.merge(one)
        for name, count in zip(counts, seen[1:], strict=True):
            counts[name] += count
    return whole, counts


def _why_none(kind: Kind, counts: Counts) -> str:
    if not counts["left_out"]:
        return "none of its pictures can be read"
    return f"no batch has {kind.least} pictures that can be read; take a larger --batch"


def _said(analysis: Analysis) -> dict[str, str]:
    return {label: _told(checkpoint) for label, checkpoint in analysis.models}


def _told(checkpoint: Checkpoint) -> str:
    """What is to be said of a model beside its name."""
    size = f"{checkpoint.encoder}, {checkpoint.image_size} px"
    return size if checkpoint.kind == "unknown" else f"{checkpoint.kind}, {size}"


def record_of(analysis: Analysis, findings: Findings, counts: Counts, files: list[str]) -> Record:
    """What `result.json` says. `files`: names of the others."""
    seen = analysis.pictures
    return {
        "name": analysis.name,
        "uri": str(analysis.place),
        "kind": analysis.kind.name,
        "models": [
            {
                "label": label,
                "weights": one.weights,
                "digest": one.digest,
                "trained": one.kind,
                "encoder": one.encoder,
                "image_size": one.image_size,
                "window": one.window,
                "summary": _summary(analysis.kind, label, findings.tables[ROWS]),
            }
            for label, one in analysis.models
        ],
        "data": seen and seen.data,
        "split": seen and seen.split,
        "batch": seen and seen.batch,
        **counts,
        "options": analysis.options,
        "conventions": findings.notes,
        "not_compared": analysis.left_out,
        "files": files,
        "digests": analysis.about,
        "versions": versions() | {"mimray": __version__},
        "time": time.time(),
    }


def _summary(kind: Kind, label: str, rows: Rows) -> dict[str, float]:
    """What is finite: a layer that gives the same for all pictures has no CKA."""
    found = kind.summary([row for row in rows if row["model"] == label])
    return {name: value for name, value in found.items() if math.isfinite(value)}


# ----- under other labels -------------------------------------------------------------------------------


def relabelled(analysis: Analysis, record: Record) -> Findings:
    """A finished record's findings, under the labels that the models have now."""
    models = zip(record["models"], analysis.models, strict=True)  # they stand in one order
    names = {old["label"]: model.label for old, model in models}
    tables = {
        file.removesuffix(".parquet"): [
            row | {column: names[row[column]] for column in _LABELS if column in row}
            for row in pq.read_table(analysis.place / file).to_pylist()
        ]
        for file in record["files"]
        if file.endswith(".parquet")
    }
    maps = {}
    if MAPS in record["files"]:
        drawn = unpacked_maps((analysis.place / MAPS).read_bytes())
        maps = {names[label]: own for label, own in drawn.items()}
    return Findings(_said(analysis), tables, maps, record["conventions"])


def relabelled_record(analysis: Analysis, record: Record) -> Record:
    """The record under the labels that the models have now, and with where they lie now."""
    models = [
        old | {"label": label, "weights": checkpoint.weights}
        for old, (label, checkpoint) in zip(record["models"], analysis.models, strict=True)
    ]
    return record | {"models": models, "not_compared": analysis.left_out}
