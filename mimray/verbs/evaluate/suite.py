"""`mimray evaluate suite semantic --from CKPT --data ROOT`: the transfer suite, as a table and bars."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mimray.errors import RunFailed, UserError
from mimray.evaluate.cells import FAILED, Cell, Draws, Failures, run_all
from mimray.evaluate.suite import Suite, lay_out
from mimray.evaluate.table import (
    Rows,
    as_json,
    read_failures,
    table,
    tell_parents,
    unlike,
    write_failures,
    write_table,
)
from mimray.evaluate.transfer_sets import find_sets
from mimray.evaluate.workers import session
from mimray.train.console import Console
from mimray.verbs.evaluate import check_writable, percent, storage_of
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, and print the table; exit 3 if a cell failed, 0 if sets were missing."""
    from mimray.report.suite import suite_bars

    storage = storage_of(arguments.storage)
    check_writable(storage)
    sets = find_sets(arguments.sets, arguments.data)
    seeds = _seeds(arguments.seeds)
    suite = lay_out(arguments.weights, sets, seeds, arguments.recipe, arguments.overrides, storage)
    failures = read_failures(suite)
    if not arguments.status:
        failures = _run(suite, arguments.cpus)
        write_failures(suite, failures)
    rows = table(suite, failures)
    write_table(suite, rows, suite_bars)
    if not arguments.status:
        tell_parents(suite, rows)
    if arguments.json:
        print(json.dumps(as_json(suite, rows)))
    else:
        _print(suite, rows)
    return RunFailed.exit_code if any(row["status"] == FAILED for row in rows) else 0


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--seeds {text}: write them like 0,1,2")
    return [int(word) for word in words]


def _run(suite: Suite, cpus: int | None) -> Failures:
    """What is not finished, by Ray; failures are written as they come, for whoever asks for `--status`."""
    from mimray.report.accuracy import layer_accuracy
    from mimray.report.curves import loss_curve

    console = Console()
    for reason in dict.fromkeys(suite.left_out.values()):
        console.say(f"left out: {reason}")
    waiting = [cell for cell in suite.cells if cell.outcome().status != "finished"]
    if not waiting:
        return {}
    with session(cpus) as share:
        what = "1 GPU" if share.gpus else f"{share.cpus} CPU(s)"
        console.say(f"{suite.name}: {len(waiting)} of {len(suite.cells)} cells, {what} each")
        done, known = 0, Failures()

        def said(cells: list[Cell], failures: Failures) -> None:
            nonlocal done
            done += len(cells)
            known.update(failures)
            write_failures(suite, known)
            for cell in cells:
                score = percent(cell.outcome().score)
                end = f"failed: {failures[cell.name]}" if cell.name in failures else score
                console.say(
                    f"{done}/{len(waiting)}  {cell.checkpoint} {cell.set} seed {cell.seed}: {end}"
                )

        return run_all(waiting, Draws(loss_curve, layer_accuracy), share, said)


def _print(suite: Suite, rows: Rows) -> None:
    """Checkpoints beside each other, a line a checkpoint, a column a set."""
    from rich.table import Table

    scored = {row["set"]: row for row in rows if row["protocol"] is not None}
    columns = [one.name for one in suite.sets if one.name in scored]
    # no score is cut short, however many sets there are: the terminal wraps the lines
    out = screen(100 + 24 * len(columns))
    shown = Table(box=None, pad_edge=False)
    for name in ("checkpoint", "pre-training", "encoder"):
        shown.add_column(name)
    cells = {(row["checkpoint"], row["set"]): row for row in rows}
    for name in columns:
        about = scored[name]
        mark = " *" if about["protocol"] == "linear probe" else ""
        test = "" if about["test"] is None else f"\n{about['test']} pictures"
        shown.add_column(f"{name}{mark}\n{about['metric']}{test}", justify="right")
    for label in suite.checkpoints:
        own = next(row for row in rows if row["checkpoint"] == label)
        encoder = f"{own['encoder']}, {own['image_size']} px"
        shown.add_row(label, own["kind"], encoder, *(_cell(cells[label, name]) for name in columns))
    out.print(shown)
    for line in _notes(rows):
        out.print(line)
    out.print(f"{suite.place}/table.csv, table.parquet, table.json, bars.png")


def _notes(rows: Rows) -> list[str]:
    """What the table does not say, each once."""
    notes = [unlike(rows)]
    if any(row["protocol"] == "linear probe" for row in rows):
        notes.append("* a linear probe of frozen features: pictures of several labels")
    shares = {row["labels"] for row in rows}
    notes += [f"trained on {share:.4g} of the labels of each class" for share in shares - {1.0}]
    for row in rows:
        if row["status"] == FAILED:
            notes.append(f"{row['checkpoint']} {row['set']} failed: {row['reason']}")
        elif row["protocol"] is None:
            notes.append(f"left out: {row['reason']}")
    return [note for note in dict.fromkeys(notes) if note]


def _cell(row: dict[str, Any]) -> str:
    """Mean and spread over seeds; how many are finished, where that is not all."""
    if row["protocol"] is None:
        return "-"
    score = "-" if row["mean"] is None else f"{100 * row['mean']:.2f}"
    if row["spread"] is not None:
        score += f" ± {100 * row['spread']:.2f}"
    return score if row["status"] == "finished" else f"{score} ({row['status']})"
