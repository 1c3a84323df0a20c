"""The table of a suite, from its cells' own records at any time, and the files that it is written to."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pyarrow as pa
from pyarrow import fs

from mimray.data.files import write_atomic
from mimray.evaluate.cells import FAILED, WAITING, Cell, Failures, Outcome
from mimray.evaluate.frozen import Draw
from mimray.evaluate.suite import Suite
from mimray.evaluate.table_files import Rows, table_files, write_files
from mimray.evaluate.transfer_sets import TransferSet
from mimray.shares import labels_share, of_labels
from mimray.train.parent import tell_parent

MISSING, LEFT_OUT = "missing", "left out"
_WORST = (FAILED, "stopped", WAITING, "starting", "running")  # a row's status, when seeds differ
_FAILURES = "failures.json"
_TYPES = {
    **dict.fromkeys(("checkpoint", "weights", "kind", "encoder"), pa.string()),
    "image_size": pa.int64(),
    **dict.fromkeys(("set", "metric", "protocol"), pa.string()),
    **dict.fromkeys(("labels", "mean", "spread", "best_mean"), pa.float64()),
    "seeds": pa.list_(pa.int64()),
    "scores": pa.list_(pa.float64()),
    "test": pa.int64(),
    "status": pa.string(),
    "reason": pa.string(),
}


def table(suite: Suite, failures: Failures) -> Rows:
    """A row for each checkpoint and set, in order, from the cells' records and what failed without one.

    `image_size`: pixels; `labels`: the share that is trained on; `mean` and `spread` (sample standard
    deviation) of the `scores` of those `seeds` that are finished; `best_mean`: of each run's best
    evaluation, where all of them note one; `test`: pictures; `status`: of all seeds, missing (the set) or
    left out; `reason`: of a failure, or why there is no score.
    """
    return [
        _without(label, one, suite)
        if (label, one.name) in suite.left_out
        else _row(label, one, suite, failures)
        for label in suite.checkpoints
        for one in suite.sets
    ]


def unlike(rows: Rows) -> str | None:
    """In what the checkpoints differ besides their pre-training, in one line; None where they do not."""
    own = {row["checkpoint"]: row for row in rows}
    told = []
    for column, name, unit in (("encoder", "encoder", ""), ("image_size", "image size", " px")):
        if len({row[column] for row in own.values()}) > 1:
            values = ", ".join(f"{label} {row[column]}{unit}" for label, row in own.items())
            told.append(f"{name} ({values})")
    return f"not under one protocol: checkpoints differ in {' and '.join(told)}" if told else None


def _row(label: str, one: TransferSet, suite: Suite, failures: Failures) -> dict[str, Any]:
    cells = [cell for cell in suite.cells if (cell.checkpoint, cell.set) == (label, one.name)]
    outcomes = [_outcome(cell, failures) for cell in cells]
    done = [(c.seed, o) for c, o in zip(cells, outcomes, strict=True) if o.score is not None]
    scores = [outcome.score for _, outcome in done if outcome.score is not None]
    best = [outcome.best for _, outcome in done if outcome.best is not None]
    worst = next((s for s in _WORST if s in {o.status for o in outcomes}), "finished")
    return {
        **_names(label, one, suite),
        "protocol": cells[0].protocol,
        "mean": statistics.mean(scores) if scores else None,
        "spread": statistics.stdev(scores) if len(scores) > 1 else None,
        "best_mean": statistics.mean(best) if best and len(best) == len(scores) else None,
        "seeds": [seed for seed, _ in done],
        "scores": scores,
        "test": next((o.test for o in outcomes if o.test is not None), None),
        "status": worst,
        "reason": next((o.reason for o in outcomes if o.status == worst and o.reason), None),
    }


def _outcome(cell: Cell, failures: Failures) -> Outcome:
    """A run that was refused before it began has no record, only its line."""
    outcome = cell.outcome()
    if outcome.status != "finished" and cell.name in failures:
        return outcome._replace(status=FAILED, reason=failures[cell.name])
    if outcome.status == "finished" and outcome.score is None:
        return outcome._replace(status=FAILED, reason="its record has no score of this metric")
    return outcome


def _without(label: str, one: TransferSet, suite: Suite) -> dict[str, Any]:
    nothing = dict.fromkeys(("protocol", "mean", "spread", "best_mean", "test"))
    return {
        **_names(label, one, suite),
        **nothing,
        "seeds": [],
        "scores": [],
        "status": MISSING if one.missing else LEFT_OUT,
        "reason": suite.left_out[label, one.name],
    }


def _names(label: str, one: TransferSet, suite: Suite) -> dict[str, Any]:
    checkpoint, recipe = suite.checkpoints[label], suite.recipes[label]
    return {
        "checkpoint": label,
        "weights": None if checkpoint is None else checkpoint.weights,
        "kind": "from scratch" if checkpoint is None else checkpoint.kind,
        "encoder": recipe.model.encoder,
        "image_size": recipe.model.image_size,
        "set": one.name,
        "metric": one.metric,
        "labels": labels_share(recipe.data.labels),
    }


# ----- files --------------------------------------------------------------------------------------------


def write_table(suite: Suite, rows: Rows, draw: Draw) -> None:
    """`table.parquet`, `table.csv`, `table.json` and `bars.png` in the suite's folder."""
    files = table_files(rows, _TYPES, **_about(suite, rows))
    files["bars.png"] = draw([row for row in rows if row["protocol"] is not None], suite.name)
    write_files(str(suite.place), files)


def as_json(suite: Suite, rows: Rows) -> dict[str, Any]:
    """What `--json` prints and `table.json` holds. `unlike`: see there."""
    return _about(suite, rows) | {"rows": rows}


def _about(suite: Suite, rows: Rows) -> dict[str, Any]:
    return {"name": suite.name, "uri": str(suite.place), "unlike": unlike(rows)}


def read_failures(suite: Suite) -> Failures:
    """Of earlier times; the record of a cell that has finished since then counts more."""
    try:
        failures: Failures = json.loads((suite.place / _FAILURES).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return failures


def write_failures(suite: Suite, failures: Failures) -> None:
    """Those of the last time: what was not started then did not fail."""
    data = json.dumps(failures, indent=2).encode() + b"\n"
    write_atomic(fs.LocalFileSystem(), str(suite.place / _FAILURES), data)


# ----- MLflow -------------------------------------------------------------------------------------------


def tell_parents(suite: Suite, rows: Rows) -> None:
    """Give each pre-training the means of those sets of which all seeds are finished; twice is once."""
    for label, checkpoint in suite.checkpoints.items():
        if checkpoint is None:
            continue
        for row in rows:
            if row["checkpoint"] == label and row["status"] == "finished":
                own = (c for c in suite.cells if (c.checkpoint, c.set) == (label, row["set"]))
                when = max(cell.outcome().time or 0.0 for cell in own)
                name = f"transfer/{row['set']}{of_labels(suite.recipes[label].data.labels)}"
                tell_parent(checkpoint.weights, {name: row["mean"]}, when)
