"""`mimray sweep SWEEP`: run a grid of recipes one after another, skipping what is finished."""

from __future__ import annotations

import argparse
import json

from mimray.errors import RunFailed
from mimray.study.grid import Cell, load_sweep
from mimray.train.console import Console
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished and print the table; exit 3 if a cell failed."""
    sweep, cells = load_sweep(arguments.sweep, arguments.overrides)
    if not arguments.status:
        for number, cell in enumerate(cells, start=1):
            _run_cell(cell, f"{sweep.name} {number}/{len(cells)}")
    table = [cell.outcome() for cell in cells]
    if arguments.json:
        print(json.dumps({"name": sweep.name, "cells": table}))
    else:
        _print(table)
    return RunFailed.exit_code if any(row["status"] == "failed" for row in table) else 0


def _run_cell(cell: Cell, title: str) -> None:
    from mimray.report.curves import loss_curve
    from mimray.train.launch import launch

    console = Console()
    console.say(f"{title}: " + " ".join(f"{k}={v}" for k, v in cell.values.items()))
    try:
        launch(cell.recipe, console, loss_curve)
    except RunFailed as error:  # the others go on; the table shows it
        console.say(f"failed: {error}")
    finally:
        console.clear()


def _print(table: list[dict[str, object]]) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name in table[0]:
        shown.add_column(name, justify="right" if name.startswith("val/") else "left")
    for row in table:
        shown.add_row(*(f"{v:.4f}" if isinstance(v, float) and k.startswith("val/") else "" if v is None
                        else str(v) for k, v in row.items()))  # fmt: skip
    out = screen()
    out.print(shown)
    out.print("Losses under different masks do not compare; val/skill is the fairer column.")
