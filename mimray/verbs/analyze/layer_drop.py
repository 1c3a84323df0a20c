"""`mimray analyze layer-drop --from CKPT --data URI`: what the last layers are worth, as a curve."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mimray.errors import RunFailed, UserError
from mimray.evaluate.cells import FAILED, Cell, Draws, Failures, run_all, run_cells
from mimray.evaluate.layer_drop import LayerDrop, drop_rows, find_pictures, lay_out_drops
from mimray.evaluate.table import read_failures, write_failures
from mimray.evaluate.table_files import Rows, table_files, write_files
from mimray.evaluate.workers import Share, session
from mimray.train.console import Console
from mimray.train.run_folder import to_json
from mimray.verbs.evaluate import check_writable, percent, storage_of
from mimray.verbs.screen import screen

_COLUMNS = {
    **dict.fromkeys(("checkpoint", "weights", "kind", "set", "metric"), pa.string()),
    "drop": pa.int64(),
    **dict.fromkeys(("remain", "drop_from"), pa.string()),
    **dict.fromkeys(("mean", "spread", "best_mean"), pa.float64()),
    "seeds": pa.list_(pa.int64()),
    "scores": pa.list_(pa.float64()),
    "test": pa.int64(),
    **dict.fromkeys(("status", "reason"), pa.string()),
}


_BARS = "sample standard deviation over seeds"
Said = Callable[[list[Cell], Failures], None]


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, write and print the table; exit 3 if a run failed.

    With `--status` nothing is run, and nothing is written.
    """
    storage = storage_of(arguments.storage)
    study = lay_out_drops(
        arguments.task,
        arguments.weights,
        find_pictures(arguments.data, arguments.val),
        _numbers("--drop", arguments.drop),
        arguments.drop_from,
        _numbers("--seeds", arguments.seeds),
        arguments.recipe,
        arguments.overrides,
        storage,
    )
    if not arguments.status:
        check_writable(storage)
    whole = next(iter(study.suites.values()))
    with _in_one_line(storage):
        failures = read_failures(whole)
    if not arguments.status:
        failures = _run(study, arguments.cpus, arguments.here)
    rows = drop_rows(study, failures)
    about = {"name": study.name, "task": arguments.task, "counted": study.counting}
    if not arguments.status:
        with _in_one_line(storage):
            write_failures(whole, failures)
            write_files(str(study.place), _files(study, rows, about))
    if arguments.json:
        print(to_json({**about, "uri": str(study.place), "rows": rows}), flush=True)
    else:
        _print(study, rows, written=not arguments.status)
    return RunFailed.exit_code if any(row["status"] == FAILED for row in rows) else 0


@contextmanager
def _in_one_line(storage: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise RunFailed(f"--storage {storage}: cannot be read or written ({reason})") from None


def _files(study: LayerDrop, rows: Rows, about: dict[str, str]) -> dict[str, bytes]:
    """The table, and the curve."""
    from mimray.report.layer_drop import layer_drop_curve

    title = f"{rows[0]['set']}: fine-tuned without the last layers"
    curve = layer_drop_curve(rows, title, {"counted": study.counting, "bars": _BARS})
    return {**table_files(rows, _COLUMNS, **about), "curve.png": curve}


def _numbers(option: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"{option} {text}: write them like 0,2,4")
    return [int(word) for word in words]


def _run(study: LayerDrop, cpus: int | None, here: bool) -> Failures:
    from mimray.report.accuracy import layer_accuracy
    from mimray.report.curves import loss_curve

    console, draws = Console(), Draws(loss_curve, layer_accuracy)
    waiting = [cell for cell in study.cells if cell.outcome().status != "finished"]
    drops = {cell.name: drop for drop, suite in study.suites.items() for cell in suite.cells}
    done = 0

    def said(cells: list[Cell], failures: Failures) -> None:
        nonlocal done
        for cell in cells:
            done += 1
            score = percent(cell.outcome().score)
            end = f"failed: {failures[cell.name]}" if cell.name in failures else score
            drop = drops[cell.name]
            which = f"{cell.checkpoint} {_without(drop)}, seed {cell.seed}"
            console.say(f"{done}/{len(waiting)}  {which}: {end}")

    if not waiting:
        return {}
    console.say(f"{study.name}: {len(waiting)} of {len(study.cells)} runs; layers are dropped "
                f"{study.counting}")  # fmt: skip
    if here:
        return _run_here(waiting, draws, cpus, said)
    with session(cpus) as share:
        return run_all(waiting, draws, share, said)


def _run_here(cells: list[Cell], draws: Draws, cpus: int | None, said: Said) -> Failures:
    import torch

    share = Share(cpus or len(os.sched_getaffinity(0)), int(torch.cuda.is_available()))
    failures: Failures = {}
    for cell in cells:
        failed = run_cells([cell], draws, share)
        said([cell], failed)
        failures |= failed
    return failures


def _without(drop: int) -> str:
    if not drop:
        return "with all layers"
    return f"without {drop} layer{'s' if drop > 1 else ''}"


def _score(row: dict[str, Any]) -> str:
    """Mean and spread over seeds; what became of them, where not all are finished."""
    mean, spread = row["mean"], row["spread"]
    score = "-" if mean is None else f"{100 * mean:.2f}"
    if spread is not None:
        score += f" ± {100 * spread:.2f}"
    return score if row["status"] == "finished" else f"{score} ({row['status']})"


def _print(study: LayerDrop, rows: Rows, written: bool) -> None:
    """Checkpoints beside each other, a line for each count."""
    from rich.table import Table

    labels = list(dict.fromkeys(row["checkpoint"] for row in rows))
    out = screen(60 + 30 * len(labels))
    shown = Table(box=None, pad_edge=False)
    shown.add_column("dropped", justify="right")
    for label in labels:
        first = next(row for row in rows if row["checkpoint"] == label)
        shown.add_column("blocks left")
        shown.add_column(f"{label}\n{first['kind']}, {first['metric']} (%)", justify="right")
    for drop in study.suites:
        own = [r for label in labels for r in rows if (r["checkpoint"], r["drop"]) == (label, drop)]
        shown.add_row(str(drop), *(text for row in own for text in (row["remain"], _score(row))))
    out.print(shown)
    for reason in dict.fromkeys(
        f"{row['checkpoint']} {_without(row['drop'])} failed: {row['reason']}"
        for row in rows
        if row["status"] == FAILED
    ):
        out.print(reason)
    out.print(f"layers are dropped {study.counting}")
    if written:
        out.print(f"{study.place}/curve.png, table.csv, table.parquet, table.json")
