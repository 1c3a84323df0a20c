"""`mimray pretrain RECIPE` and `mimray demo`: train, draw, and say what came out."""

from __future__ import annotations

import argparse
from typing import Any

from mimray.recipe import CLASSIFIED, Recipe, load_recipe
from mimray.train.console import Console
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on; prints a table, or one JSON object with `--json`."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    console = Console()
    from mimray.report.curves import loss_curve
    from mimray.train.launch import launch
    from mimray.train.run_folder import RunFolder, to_json

    try:
        record, already = launch(recipe, console, loss_curve)
    finally:
        console.clear()
    result = summary(RunFolder.of(recipe).uri, record)
    if arguments.json:
        print(to_json(result), flush=True)
    else:
        _print_table(result, record, already, recipe.run.tracking, name_of_loss(recipe))
    return 0


def summary(run_dir: str, record: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; figures that the run does not have are null."""
    final = record["final"]
    return {
        "run_dir": run_dir,
        "steps": record["steps"],
        "images_per_s": final.get("images_per_s"),
        "val_loss": final.get("val/loss"),
        "fill_visible_mean": final.get("val/fill_visible_mean"),
        "fill_nearest": final.get("val/fill_nearest"),
        "skill": final.get("val/skill"),
        "checkpoint": f"{run_dir}/{record['checkpoint']}" if record["checkpoint"] else None,
    }


def _print_table(
    result: dict[str, Any],
    record: dict[str, Any],
    already: bool,
    tracking: str | None,
    loss_name: str,
) -> None:
    from rich.table import Table

    out = screen()
    if already:
        out.print(
            f"The run {record['name']} is finished. Another one: run.seed=1, or any other setting, "
            f"or run.name=NAME."
        )
    table = Table(title=record["name"], title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path that is cut short cannot be copied
    loss, mean = result["val_loss"], result["fill_visible_mean"]
    better = None if loss is None or not mean else 1 - loss / mean
    fills = (
        ("  mean of visible", f"{shown(mean, '.4f')}   {versus(better)}"),
        (
            "  nearest visible",
            f"{shown(result['fill_nearest'], '.4f')}   skill {shown(result['skill'], '+.3f')} "
            f"against this fill",
        ),
    )
    for name, value in (
        ("steps", f"{result['steps']}"),
        ("pictures a second", shown(result["images_per_s"], ".0f")),
        ("validation loss", f"{shown(loss, '.4f')}   {loss_name}"),
        *(() if mean is None else fills),  # a target that is classified has none
        ("reconstructions", f"{result['run_dir']}/figures/reconstruction.png"),
        ("loss curve", f"{result['run_dir']}/figures/loss.png"),
        ("checkpoint", result["checkpoint"]),
        ("compare runs", where_to_compare(tracking)),
    ):
        table.add_row(name, value)
    if record["damaged"]:
        table.add_row(
            "left out",
            f"{len(record['damaged'])} unreadable pictures that were met, named in run.json",
        )
    out.print(table)


def name_of_loss(recipe: Recipe) -> str:
    """What the validation loss is, as people say it."""
    if recipe.target.kind in CLASSIFIED:
        return "cross entropy where hidden"
    names = {"l1": "L1", "l2": "L2", "smooth_l1": "smooth L1"}
    where = "cells of HOG" if recipe.target.kind == "hog" else "pixels"
    return f"{names[recipe.target.loss]} on hidden {where}"


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash where the run has none."""
    return "-" if value is None else format(value, form)


def where_to_compare(tracking: str | None) -> str:
    """How one gets to MLflow's pages."""
    if tracking is None:
        return "mimray ui"
    if tracking == "off":
        return "mimray runs ls"
    return f"mimray ui --uri {tracking}" if tracking.startswith("sqlite:") else tracking


def versus(better: float | None) -> str:
    """How a loss stands against a fill, as people say it."""
    if better is None:
        return "-"
    return f"{abs(better):.0%} {'better' if better >= 0 else 'worse'} than this fill"
