"""A sweep's table, a row a trial, from the runs' folders and `sweep.json` alone; and its best recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.objective import Objective
from mimray.study.sweeps.ridge import SIZE
from mimray.study.sweeps.seeds import Candidate, Rows
from mimray.study.sweeps.sweep import Sweep
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder

Columns = dict[str, pa.DataType]

_FOUND: Columns = {
    "run": pa.string(),
    "status": pa.string(),
    "objective": pa.float64(),
    **dict.fromkeys(("avgdist_px", "avgdist_px_at_192", "hidden_ratio"), pa.float64()),
    **dict.fromkeys(("val/loss", "val/skill"), pa.float64()),
    **dict.fromkeys(("val/reference_loss", "val/reference_skill"), pa.float64()),
    **dict.fromkeys(("steps", "total_steps"), pa.int64()),
    "reason": pa.string(),
}
"""Behind the settings. `status`: waiting, as in `run.json`, trained where what ranks it is still to come,
died where its process was killed, or ended; `objective`: in shares of 1; `steps`: of pre-training;
`reason`: why it failed."""


def sweep_rows(
    sweep: Sweep, cells: Sequence[Cell], objective: Objective, folder: SweepFolder
) -> Rows:
    """One a cell, in their order; of Optuna's only those that it has asked for."""
    rows = [_row(sweep, cell, objective, folder) for cell in cells]
    return [row for row in rows if sweep.search != "optuna" or row["status"] != "waiting"]


def columns(sweep: Sweep, rows: Rows) -> Columns:
    """Of `sweep_rows`: the settings first, each of the one type of its values, or as text."""
    return {name: _type([row[name] for row in rows]) for name in sweep.names} | _FOUND


def best_recipe(sweep: Sweep, cells: Sequence[Cell], best: Candidate, label: str) -> str:
    """The recipe of a candidate as YAML, ready to run: as its first trial's, without its name and reference
    mask."""
    cell = next(cell for cell in cells if cell.name == best.rows[0]["run"])
    plain = {"name": None, "experiment": "mimray", "reference_mask": None}
    run = cell.recipe.run.model_copy(update=plain)
    recipe = cell.recipe.model_copy(update={"name": f"{sweep.name}-best", "run": run})
    worth = f"{label} {best.objective:.4f}, of the run {cell.name}"
    if best.deviation is not None:
        worth = (
            f"{label} {best.objective:.4f}, mean of {len(best.rows)} runs, sample standard deviation "
            f"{best.deviation:.4f};\n#            this is the run {cell.name}"
        )
    return (
        f"# the best trial of sweep {sweep.name}: {cell.words}\n#\n"
        f"# command    mimray pretrain best.yaml\n"
        f"# result     {worth}\n"
        f"{recipe.to_yaml()}"
    )


def _row(sweep: Sweep, cell: Cell, objective: Objective, folder: SweepFolder) -> dict[str, Any]:
    reason = folder.failures.get(cell.name)
    try:
        record, value = cell.record(), objective.value(cell)
    except UserError as error:  # a damaged file, which the table outlives
        record, value, reason = None, None, str(error)
    told = record or {"status": "waiting", "final": {}, "steps": 0}
    status = told["status"]
    if status == "finished" and value is None:
        status = "trained"
    elif status in ("starting", "running") and Fence(RunFolder.of(cell.recipe)).is_gone():
        status = "died"
    steps = told["steps"]
    if value is not None:
        reason = None
    elif folder.was_stopped(cell):
        # its trainers may have gone on for a while, and its last rows may not have reached its folder
        status, steps = "ended", max(steps, folder.stopped[cell.name]["step"])
    elif reason is not None:
        status = "failed"
    mask = told.get("mask", {})
    distance = mask.get("average_distance")
    at_192 = None if distance is None else distance * SIZE / cell.recipe.model.image_size
    return {
        **{name: cell.setting(name) for name in sweep.names},
        "run": cell.name,
        "status": status,
        "objective": value,
        "avgdist_px": distance,
        "avgdist_px_at_192": at_192,
        "hidden_ratio": mask.get("hidden_ratio"),
        **{name: told["final"].get(name) for name in _FOUND if name.startswith("val/")},
        "steps": steps,
        "total_steps": told.get("total_steps"),
        "reason": reason or told.get("error"),
        # what the figure over AvgDist tells points apart by
        "strategy": cell.recipe.mask.strategy,
        "unit": cell.recipe.mask.unit,
        "ratio": cell.recipe.mask.ratio,
    }


def _type(values: Sequence[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # 1 and `auto`
        return pa.string()
