"""`mimray sweep SWEEP`: compare recipes on Ray Tune, skipping what is finished, and say which is best."""

from __future__ import annotations

import argparse
from typing import Any

from mimray.errors import RunFailed
from mimray.evaluate.table_files import table_files
from mimray.study.cell import Cell
from mimray.study.opening import open_cells
from mimray.study.placing import hosts_here, plan_all
from mimray.study.reading.wording import count
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.objective import Objective, check_objective, objective_of, progress_metric
from mimray.study.sweeps.ridge import RIDGE
from mimray.study.sweeps.seeds import SEED, Rows, best_of, candidates
from mimray.study.sweeps.sweep import Sweep
from mimray.study.sweeps.table import best_recipe, columns, sweep_rows
from mimray.train.console import Console
from mimray.train.run_folder import to_json
from mimray.verbs.sweep_screen import show

_RESULTS = frozenset(("heat_map.png", "avgdist.png", "best.yaml"))  # not of every sweep


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished and print the table; exit 3 if a trial failed."""
    sweep, cells = load_sweep(arguments.sweep, arguments.overrides)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    if arguments.dry_run:
        _check(sweep, cells, objective)
    elif not arguments.status:
        _run(sweep, cells, objective, folder)
    rows = sweep_rows(sweep, cells, objective, folder)
    result = _result(sweep, cells, objective, folder, rows)
    if arguments.json:
        print(to_json(result), flush=True)
    else:
        show(sweep, rows, result)
    return RunFailed.exit_code if any(row["status"] == "failed" for row in rows) else 0


def _run(sweep: Sweep, cells: list[Cell], objective: Objective, folder: SweepFolder) -> None:
    """Check what can be checked, run the trials, and write what they say; also where they are stopped."""
    from mimray.evaluate.cells import Draws
    from mimray.report.accuracy import layer_accuracy
    from mimray.report.curves import loss_curve
    from mimray.study.sweeps.copy import sweep_copy
    from mimray.study.sweeps.tuner import is_over, room_for, run_trials
    from mimray.study.sweeps.watching import Watch

    choice = choice_of(sweep, cells)
    with folder.held():
        if others := folder.of_others(cells):
            Console().say(
                f"{folder.place}: holds a table of other settings ({count(others, 'trial')} that are none "
                f"of these), which this one replaces; their runs stay, and another name: in the file or "
                f"run.storage keeps both tables"
            )
        folder.pictures = objective.learned_from(cells)
        over = sum(is_over(cell, objective, folder) for cell in cells)
        if over >= choice.total:
            _write(sweep, cells, objective, folder)
            return
        _open(sweep, cells)
        check_objective(objective, cells)
        with room_for(cells) as plan:
            folder.save()
            copy = sweep_copy(sweep, cells, folder)
            watch = Watch(cells, objective, folder, copy, Console().say, over, choice.total)
            watch.begin(plan.at_once)
            draws = Draws(loss_curve, layer_accuracy)
            status = "stopped"
            try:
                run_trials(sweep, cells, objective, folder, draws, choice, watch, plan)
                status = "finished"
            finally:
                rows, files = _write(sweep, cells, objective, folder)
                best = best_of(candidates(sweep, rows))
                told = {} if best is None else {"sweep/best": best.objective}
                copy.close(cells, status, told, files)


def _check(sweep: Sweep, cells: list[Cell], objective: Objective) -> None:
    """What can be known without Ray, and a line on the trials."""
    choice = choice_of(sweep, cells)
    _open(sweep, cells)
    check_objective(objective, cells)
    line = count(choice.total, "trial")
    hosts = hosts_here(max(cell.recipe.speed.most_workers for cell in cells))
    if hosts is not None:
        line += (
            f", {plan_all([cell.recipe for cell in cells], hosts).at_once} at once on this machine"
        )
    Console().say(f"{sweep.name}: {line}")


def _open(sweep: Sweep, cells: list[Cell]) -> None:
    """What can be known of pictures before Ray starts, also of trials that are finished: who is ranked
    beside them must know the same ones."""
    open_cells(cells, f"sweep {sweep.name}", lambda cell: f"cell {cell.words}")


def _write(
    sweep: Sweep, cells: list[Cell], objective: Objective, folder: SweepFolder
) -> tuple[Rows, dict[str, bytes]]:
    """Table, figures and the best recipe, beside `sweep.json`."""
    from mimray.report.sweep import heat_map, over_avgdist

    rows = sweep_rows(sweep, cells, objective, folder)
    result = _result(sweep, cells, objective, folder, rows)
    about = {name: value for name, value in result.items() if name != "cells"}
    files = table_files(rows, columns(sweep, rows), **about)
    known = candidates(sweep, rows)
    best = best_of(known)
    notes = _conventions(sweep, cells, objective)
    means = [one.rows[0] | one.told for one in known]  # over seeds
    title = f"{sweep.name}: {objective.label}"
    in_fields = not {"mask.unit", "mask.ratio"} & {*sweep.ranges}
    figures = {
        "heat_map.png": heat_map(
            means + [row for row in rows if row["objective"] is None],
            title,
            objective.metric,
            objective.label,
            notes | {"frame": "best recipe"},
            None if best is None else best.rows[0],
        )
        if in_fields
        else None,
        "avgdist.png": over_avgdist(
            means,
            title,
            objective.metric,
            RIDGE,
            notes | {"numbers": "mask ratio"} | _bars(sweep),
        ),
    }
    files |= {name: figure for name, figure in figures.items() if figure is not None}
    if best is not None:
        files["best.yaml"] = best_recipe(sweep, cells, best, objective.label).encode()
    folder.write(files)
    folder.remove(_RESULTS - set(files))  # of other settings
    return rows, files


def _result(
    sweep: Sweep, cells: list[Cell], objective: Objective, folder: SweepFolder, rows: Rows
) -> dict[str, Any]:
    """What `--json` prints. `candidates`: what is finished, trials that differ in `run.seed` alone as one;
    `best`: of them, and the first of its runs; `pictures`: those of the objective, in words; `steps`: of
    pre-training, all trials together; `steps_of_all`: what they would be had none been ended."""
    found = candidates(sweep, rows)
    best = best_of(found)
    totals = [row["total_steps"] for row in rows]
    known = [total for total in totals if total is not None]
    return {
        "name": sweep.name,
        "uri": folder.place,
        "objective": objective.metric,
        "pictures": objective.learned_from(cells),
        "stopped_by": None if sweep.stop is None else progress_metric(cells),
        "reference_mask": _reference(cells),
        "best": best and best.told | {"run": best.rows[0]["run"]},
        "candidates": [one.told for one in found],
        "steps": sum(row["steps"] for row in rows),
        "steps_of_all": sum(known) if len(known) == len(totals) else None,
        "cells": [{k: v for k, v in row.items() if k in columns(sweep, rows)} for row in rows],
    }


def _reference(cells: list[Cell]) -> dict[str, Any] | None:
    mask = cells[0].recipe.run.reference_mask
    return None if mask is None else mask.model_dump()


def _bars(sweep: Sweep) -> dict[str, str]:
    """What they are, where seeds vary."""
    return {"bars": "sample standard deviation over run.seed"} if SEED in sweep.names else {}


def _conventions(sweep: Sweep, cells: list[Cell], objective: Objective) -> dict[str, str]:
    """For under the figures."""
    notes = {"objective": objective.label}
    if (pictures := objective.learned_from(cells)) is not None:
        notes["pictures"] = pictures
    if (mask := cells[0].recipe.run.reference_mask) is not None:
        notes["reference mask"] = f"{mask.strategy}, unit {mask.unit} px, ratio {mask.ratio:g}"
    if sweep.stop is not None:
        stop = sweep.stop
        notes["×"] = (
            f"ended by {stop.rule} on {progress_metric(cells)} (grace {stop.grace:g}, "
            f"reduction factor {stop.reduction_factor:g})"
        )
    others = [n for n in sweep.names if n not in (SEED, "mask.unit", "mask.ratio", "mask.strategy")]
    if others:
        notes["a field"] = f"the best over {', '.join(others)}"
    return notes
