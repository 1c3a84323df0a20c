"""What `mimray sweep` prints for people: a table of trials, one of means where seeds vary, and the best."""

from __future__ import annotations

from typing import Any

from mimray.study.sweeps.seeds import SEED, Rows, candidates, compared, lead_of
from mimray.study.sweeps.sweep import Sweep
from mimray.verbs.screen import screen


def show(sweep: Sweep, rows: Rows, result: dict[str, Any]) -> None:
    """Print `sweep_rows`, and what the `result` of `--json` says of them."""
    from rich.table import Table

    losses = _losses(sweep, result)
    shown = Table(box=None, pad_edge=False)
    for name in (*sweep.names, "run", "status"):
        shown.add_column(name)
    for name in (result["objective"], "AvgDist", *losses, "steps"):
        shown.add_column(name, justify="right")
    for row in rows:
        distance = row["avgdist_px"]
        shown.add_row(
            *(str(row[name]) for name in sweep.names),
            row["run"],
            row["status"],
            _figure(row["objective"]),
            "" if distance is None else f"{distance:.1f} px",
            *(_figure(row[name]) for name in losses),
            str(row["steps"]),
        )
    out = screen(140)
    out.print(shown)
    if SEED in sweep.names and result["candidates"]:
        out.print()
        out.print(_means(result))
    for line in _notes(sweep, rows, result):
        out.print(line)


def _losses(sweep: Sweep, result: dict[str, Any]) -> list[str]:
    """Those that compare from row to row and rank nothing: none where trials have masks of their own and
    no other."""
    if result["reference_mask"] is not None:
        names = ["val/reference_loss", "val/reference_skill"]
    elif any(name.startswith("mask.") for name in sweep.names):
        names = []
    else:
        names = ["val/loss", "val/skill"]
    return [name for name in names if name != result["objective"]]


def _means(result: dict[str, Any]) -> Any:
    """What trials that differ in their seed alone are worth together."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    *names, _, _, _ = result["candidates"][0]
    for name in names:
        shown.add_column(name)
    for name in ("runs", f"mean {result['objective']}", "standard deviation"):
        shown.add_column(name, justify="right")
    for one in result["candidates"]:
        shown.add_row(
            *(str(one[name]) for name in names),
            str(one["runs"]),
            _figure(one["objective"]),
            _figure(one["deviation"]),
        )
    return shown


def _notes(sweep: Sweep, rows: Rows, result: dict[str, Any]) -> list[str]:
    """What the tables do not say."""
    told = f"Ranked by {result['objective']}"
    if pictures := result.get("pictures"):
        told += f", {pictures}"
    if (mask := result["reference_mask"]) is not None:
        told += (
            f"; reference mask: {mask['strategy']}, unit {mask['unit']}, ratio {mask['ratio']:g}"
        )
    if result["stopped_by"]:
        told += f"; trials were ended by {result['stopped_by']}"
    notes = [f"{told}. Losses under masks of their own do not compare."]
    notes += [f"{row['run']} failed: {row['reason']}" for row in rows if row["status"] == "failed"]
    if result["best"] is not None:
        notes += [
            _best(sweep, rows, result["best"]),
            f"{result['uri']}/best.yaml, table.csv, figures",
        ]
    return notes


def _best(sweep: Sweep, rows: Rows, best: dict[str, Any]) -> str:
    known = candidates(sweep, rows)
    words = " ".join(f"{name}={best[name]}" for name in sweep.names if name != SEED)
    line = f"Best: {words or sweep.recipe} ({best['objective']:.4f}"
    if best["deviation"] is not None:
        line += f", mean of {best['runs']} runs, sample standard deviation {best['deviation']:.4f}"
    if (lead := lead_of(known)) is not None:
        line += f", {lead:.4f} above the median of those that are finished"
    line += ")"
    if best["deviation"] is None:
        line += "; one run each says nothing of noise between seeds"
    if equal := sum(one.objective == best["objective"] for one in compared(known)) - 1:
        line += f"; as good: {equal} more"
    if few := len(known) - len(compared(known)):
        line += f"; left out, with fewer finished runs: {few}"
    return f"{line}."


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
