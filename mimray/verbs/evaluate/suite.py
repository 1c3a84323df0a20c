"""`mimray evaluate suite semantic --from CKPT --data ROOT`: the transfer suite, as a table and bars."""

from __future__ import annotations

import argparse
import json

from mimray.errors import RunFailed, UserError
from mimray.evaluate.cells import Cell, Draws, Failures, run_all
from mimray.evaluate.suite import Suite, find_sets, lay_out
from mimray.evaluate.table import (
    FAILED,
    MISSING,
    Rows,
    read_failures,
    table,
    tell_parents,
    write_failures,
    write_table,
)
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
        print(json.dumps({"name": suite.name, "uri": str(suite.place), "rows": rows}))
    else:
        _print(suite, rows)
    return RunFailed.exit_code if any(row["status"] == FAILED for row in rows) else 0


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--seeds {text}: write them like 0,1,2")
    return [int(word) for word in words]


def _run(suite: Suite, cpus: int | None) -> Failures:
    from mimray.report.accuracy import layer_accuracy
    from mimray.report.curves import loss_curve

    console = Console()
    for one in suite.sets:
        if one.missing:
            console.say(f"left out: {one.missing}")
    waiting = [cell for cell in suite.cells if cell.outcome().status != "finished"]
    if not waiting:
        return {}
    with session(cpus) as share:
        what = "1 GPU" if share.gpus else f"{share.cpus} CPU(s)"
        console.say(f"{suite.name}: {len(waiting)} of {len(suite.cells)} cells, {what} each")
        done = 0

        def said(cells: list[Cell], failures: Failures) -> None:
            nonlocal done
            done += len(cells)
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

    columns = [one.name for one in suite.sets if not one.missing]
    # no score is cut short, however many sets there are: the terminal wraps the lines
    out = screen(80 + 24 * len(columns))
    shown = Table(box=None, pad_edge=False)
    shown.add_column("checkpoint")
    shown.add_column("pre-training")
    cells = {(row["checkpoint"], row["set"]): row for row in rows}
    for name in columns:
        about = next(row for row in rows if row["set"] == name)
        mark = " *" if about["protocol"] == "linear probe" else ""
        test = "" if about["test"] is None else f"\n{about['test']} pictures"
        shown.add_column(f"{name}{mark}\n{about['metric']}{test}", justify="right")
    for label in suite.checkpoints:
        own = [cells.get((label, name)) for name in columns]
        kind = next(row["kind"] for row in rows if row["checkpoint"] == label)
        shown.add_row(label, kind, *map(_cell, own))
    out.print(shown)
    if any(row["protocol"] == "linear probe" for row in rows):
        out.print("* a linear probe of frozen features: pictures of several labels")
    for reason in dict.fromkeys(
        f"{row['checkpoint']} {row['set']} failed: {row['reason']}"
        if row["status"] == FAILED
        else f"left out: {row['reason']}"
        for row in rows
        if row["status"] in (FAILED, MISSING)
    ):
        out.print(reason)
    out.print(f"{suite.place}/table.csv, table.parquet, table.json, bars.png")


def _cell(row: dict[str, object] | None) -> str:
    """Mean and spread over seeds; how many are finished, where that is not all."""
    if row is None:
        return "-"
    mean, spread = row["mean"], row["spread"]
    score = "-" if not isinstance(mean, float) else f"{100 * mean:.2f}"
    if isinstance(spread, float):
        score += f" ± {100 * spread:.2f}"
    return score if row["status"] == "finished" else f"{score} ({row['status']})"
