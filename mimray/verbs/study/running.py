"""`mimray study run STUDY`: run all cells, skipping what is finished, and say what they tell."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import ExitStack

from mimray.errors import RunFailed, UserError
from mimray.evaluate.cells import Draws
from mimray.study.cell import Cell
from mimray.study.placing import hosts_here
from mimray.study.scaling.budget import choose_cells
from mimray.study.scaling.cells import Laid, load_study, said
from mimray.study.scaling.copy import study_copy
from mimray.study.scaling.driver import Book, Session, run_steps, unfinished
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.hours import (
    OPERATIONS,
    Hours,
    known_rates,
    measured_rates,
    predict_hours,
    rates_by_operations,
    unit_of,
)
from mimray.study.scaling.measuring import MeasureStep
from mimray.study.scaling.plan import Needs, most_workers, open_study
from mimray.study.scaling.progress import settle
from mimray.study.scaling.steps import Drawings, Step
from mimray.train.console import Console
from mimray.train.run_folder import to_json
from mimray.verbs.screen import screen
from mimray.verbs.study.report import make_report, print_report
from mimray.verbs.study.shown import cells_table, hours_lines, hours_table, line_of, notes


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, and report; exit 3 if a cell failed."""
    if arguments.dry_run and arguments.measure:
        raise UserError(
            "--measure trains twenty steps of each encoder, and --dry-run nothing; leave one of them out"
        )
    laid = load_study(arguments.study, arguments.overrides)
    folder = StudyFolder(laid)
    with ExitStack() as stack:
        if not arguments.dry_run:
            stack.enter_context(folder.held())
        steps = open_study(laid, folder)
        session = Session(laid, steps, stack)
        hosts = hosts_here(most_workers(laid, steps)) or [host.node for host in session.hosts()]
        needs = Needs(hosts)
        needs.check(laid.cells, steps)
        if not arguments.dry_run:
            folder.begin()
            settle(laid.cells, steps, folder)
        hours = _predict(arguments, laid, steps, folder, needs, session)
        _say_hours(arguments, laid, folder, hours, steps, needs)
        if arguments.dry_run:
            return 0
        _go(laid, steps, folder, needs, hours, session)
    return _tell(arguments, laid, steps, folder)


# ----- before it starts -----------------------------------------------------------------------------------


def _predict(
    arguments: argparse.Namespace,
    laid: Laid,
    steps: Sequence[Step],
    folder: StudyFolder,
    needs: Needs,
    session: Session,
) -> dict[str, Hours]:
    """Hours of every cell, noted in the study's folder, and the cells that the budget pays for."""
    measure = MeasureStep(folder.place)
    rates = measured_rates(laid.cells, measure) | known_rates(laid.cells)
    first = {cell.values["model"]: cell for cell in reversed(laid.cells)}
    lacking = [cell for name, cell in first.items() if name not in rates]
    if lacking and arguments.measure:
        _measure(lacking, measure, needs, session)
        rates = measured_rates(laid.cells, measure) | rates
        lacking = [cell for name, cell in first.items() if name not in rates]
    flops = arguments.tflops and arguments.tflops * 1e12
    rates |= rates_by_operations(lacking, flops, lambda cell: needs.of(cell, steps[0]))
    hours = predict_hours(laid.cells, steps, folder, needs.of, rates)
    folder.unit = unit_of([needs.of(cell, steps[0]) for cell in laid.cells])
    folder.predicted = {name: own.costs for name, own in hours.items()}
    folder.reserved = {name: own.cost / own.clock for name, own in hours.items()}
    choose_cells(laid, folder, hours, arguments.budget)
    return hours


class _Deaf:
    """Satisfies `Listener`: what a measurement says is its file."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def begun(self, cell: Cell, step: Step) -> None:
        """Nothing."""

    def ended(self, cell: Cell, step: Step, reason: str | None) -> None:
        self.reasons += [] if reason is None else [f"{said(cell)}: {reason}"]

    def interrupted(self, cell: Cell, step: Step) -> None:
        """Nothing."""


def _measure(cells: list[Cell], measure: MeasureStep, needs: Needs, session: Session) -> None:
    """Twenty steps of each. Raises RunFailed where one fails."""
    heard = _Deaf()
    run_steps(cells, [measure], needs, {}, session, _drawings(), heard)
    if heard.reasons:
        raise RunFailed(f"--measure: {heard.reasons[0]}")


def _say_hours(
    arguments: argparse.Namespace,
    laid: Laid,
    folder: StudyFolder,
    hours: dict[str, Hours],
    steps: Sequence[Step],
    needs: Needs,
) -> None:
    """The prediction: of each cell with `--dry-run`, else of the study and of the dearest cells."""
    chosen = [cell for cell in laid.cells if folder.is_chosen(cell.name)]
    total = sum(hours[cell.name].cost for cell in chosen)
    told = (
        f"{laid.study.name}: {len(chosen)} of {len(laid.cells)} cells, {total:.3g} {folder.unit} "
        f"predicted, from {_sources(hours, arguments.tflops)}"
    )
    if arguments.json and arguments.dry_run:
        cells = [
            {**cell.values, "run": cell.name, "chosen": folder.is_chosen(cell.name)}
            | {"hours": hours[cell.name].cost, **hours[cell.name].rate._asdict()}
            for cell in laid.cells
        ]
        print(
            to_json({"name": laid.study.name, "unit": folder.unit, "hours": total, "cells": cells})
        )
        return
    if arguments.dry_run:
        screen(140).print(hours_table(laid.cells, hours, folder))
        screen().print(told, markup=False)
        return
    console = Console()
    console.say(told)
    left = unfinished(chosen, steps, folder)
    if left:
        console.say(
            f"{len(left)} cells to run; `mimray study status {folder.place}` shows how far they are"
        )
        for line in hours_lines(left, hours, folder.unit):
            console.say(line)


def _sources(hours: dict[str, Hours], tflops: float | None) -> str:
    from mimray.train.prediction import MFU

    rate = f"{tflops:g} TFLOP/s" if tflops else "this host's matrix rate"
    names = {
        "measured": "measured images/s",
        "operations": f"operations at {MFU:.0%} of {rate}",
    }
    found = sorted({h.rate.source for h in hours.values()})
    told = " and ".join(names[source] for source in found)
    return told + (
        "; small models take several times as long: --measure" if OPERATIONS in found else ""
    )


# ----- the cells ------------------------------------------------------------------------------------------


def _drawings() -> Drawings:
    from mimray.report.accuracy import layer_accuracy
    from mimray.report.curves import loss_curve
    from mimray.verbs.study.sheet import side_by_side

    return Drawings(Draws(loss_curve, layer_accuracy), side_by_side)


def _go(
    laid: Laid,
    steps: Sequence[Step],
    folder: StudyFolder,
    needs: Needs,
    hours: dict[str, Hours],
    session: Session,
) -> None:
    """Run what is left, and leave the table behind, also where it is stopped."""
    console = Console()
    book = Book(laid, steps, folder, study_copy(laid, folder), console.say)
    folder.status = "running"
    folder.save()
    status = "stopped"
    try:
        if left := unfinished(laid.cells, steps, folder):
            run_steps(left, steps, needs, hours, session, _drawings(), book)
        status = "finished"
    finally:
        folder.status = status
        folder.save()
        rows, files = book.write_table()
        losses = [row["val_loss"] for row in rows if row.get("val_loss") is not None]
        best = [loss for loss in losses if math.isfinite(loss)]
        book.copy.close(
            list(laid.cells), status, {"study/best_val_loss": min(best)} if best else {}, files
        )


def _tell(
    arguments: argparse.Namespace, laid: Laid, steps: Sequence[Step], folder: StudyFolder
) -> int:
    """The table, and what it says where it says something."""
    from mimray.study.scaling.table import study_rows

    rows = study_rows(laid.cells, steps, folder)
    reported = None
    try:
        reported = make_report(folder.place)
    except UserError as error:
        why = str(error)
    failed = any(row["status"] == "failed" for row in rows)
    if arguments.json:
        files = reported[2] if reported else []
        print(
            to_json({"name": laid.study.name, "uri": folder.place, "cells": rows, "files": files})
        )
        return RunFailed.exit_code if failed else 0
    out = screen(140)
    out.print(cells_table(laid, steps, folder))
    for line in (line_of(rows, folder), *notes(rows)):
        out.print(line, markup=False)
    if reported:
        print_report(*reported)
    else:
        out.print(f"no report yet: {why}", markup=False)
    return RunFailed.exit_code if failed else 0
