"""`mimray study status STUDY`: how far its cells are, from their folders alone."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from mimray.study.scaling.cells import Laid, load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import steps_of
from mimray.study.scaling.progress import state_of
from mimray.study.scaling.table import study_rows
from mimray.train.run_folder import to_json
from mimray.verbs.screen import screen
from mimray.verbs.study.shown import cells_table, line_of, notes

if TYPE_CHECKING:
    from rich.console import Console

_REDRAW_SECONDS = 2.0
_SHARE = 0.1  # of a core that looking may take, for it takes it from the study
_AROUND = 6  # lines of a screen that are no cells


def run(arguments: argparse.Namespace) -> int:
    """Show the table: once, or on a terminal for as long as somebody runs the study."""
    laid = load_study(arguments.study, arguments.overrides)
    if arguments.json:
        print(to_json(_result(laid)), flush=True)
    elif arguments.once or not sys.stdout.isatty():
        _print(laid, StudyFolder(laid))
    else:
        from rich.console import Console

        _live(laid, Console(highlight=False))
    return 0


def _result(laid: Laid) -> dict[str, object]:
    """What `--json` prints; `left_h`: hours of computing, predicted."""
    folder = StudyFolder(laid)
    steps = steps_of(laid, folder)
    states = {cell.name: state_of(cell, steps, folder) for cell in laid.cells}
    cells = [
        {**cell.values, "run": cell.name}
        | dict(zip(("status", "step", "done", "left_h", "reason"), states[cell.name], strict=True))
        for cell in laid.cells
    ]
    rows = study_rows(laid.cells, steps, folder)
    return {
        "name": laid.study.name,
        "uri": folder.place,
        "under_way": folder.is_driven(),
        "cells": cells,
        "rows": rows,
    }


def _print(laid: Laid, folder: StudyFolder) -> None:
    steps = steps_of(laid, folder)
    rows = study_rows(laid.cells, steps, folder)
    out = screen(140)
    out.print(cells_table(laid, steps, folder))
    for line in (line_of(rows, folder), *notes(rows)):
        out.print(line, markup=False)


def _live(laid: Laid, console: Console) -> None:
    """On a terminal until the study ends, or Ctrl-C."""
    from rich.live import Live

    folder = StudyFolder(laid)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while folder.is_driven():
                began, most = time.process_time(), console.height - _AROUND
                table = cells_table(laid, steps_of(laid, folder), folder, most)
                live.update(table, refresh=True)
                took = time.process_time() - began
                time.sleep(max(_REDRAW_SECONDS, took / _SHARE))
                folder = StudyFolder(laid)
        except KeyboardInterrupt:
            pass
    _print(laid, folder)
