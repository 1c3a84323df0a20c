"""`mimray finetune RECIPE --from CKPT`: train a classifier end to end, and say how good it is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from mimray.errors import UserError
from mimray.recipe import FinetuneRecipe, load_finetune_recipe
from mimray.recipe.finetuning import SCRATCH
from mimray.train.console import Console
from mimray.verbs.evaluate import percent
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on; prints a table, or one JSON object with `--json`.

    Raises UserError where nobody said what to start from: from scratch by oversight costs days of GPUs.
    """
    recipe = load_finetune_recipe(arguments.recipe, overrides(arguments))
    if not recipe.model.start_is_said:
        raise UserError(
            f"{recipe.name} does not say what to start from: name it by --from CKPT, or --from scratch"
        )
    console = Console()
    from mimray.report.curves import loss_curve
    from mimray.train.launch import launch
    from mimray.train.run_folder import RunFolder, to_json

    try:
        record, already = launch(recipe, console, loss_curve, here=arguments.here)
    except UserError as error:
        if arguments.weights is None:
            raise
        raise UserError(as_typed(str(error))) from error
    finally:
        console.clear()
    result = summary(RunFolder.of(recipe).uri, record)
    if arguments.json:
        print(to_json(result), flush=True)
    else:
        _print_table(recipe, result, record, already)
    return 0


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The settings, with what `--from` names among them; a path is made absolute, for it names the run."""
    weights = arguments.weights
    if weights is None:
        return list(arguments.overrides)
    path = Path(weights).expanduser()
    if weights != SCRATCH and path.exists():
        weights = str(path.absolute())
    return [*arguments.overrides, f"model.weights={weights}"]


def as_typed(line: str) -> str:
    """An error's line that begins with the setting which `--from` fills, with what was typed instead."""
    return re.sub(r"^model\.weights(: |=)", "--from ", line)


def summary(run_dir: str, record: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; figures that the run does not have are null."""
    final = record["final"]
    kinds = ("", "_best", "_average", "_average_best")
    names = ["top5", *(score + kind for score in ("top1", "mean_per_class") for kind in kinds)]
    return {
        "run_dir": run_dir,
        "steps": record["steps"],
        "classes": record["classes"],
        "weights": record["weights"],
        "images_per_s": final.get("images_per_s"),
        "val_loss": final.get("val/loss"),
        **{name: final.get(f"val/{name}") for name in names},
        "checkpoint": f"{run_dir}/{record['checkpoint']}" if record["checkpoint"] else None,
    }


def _print_table(
    recipe: FinetuneRecipe, result: dict[str, Any], record: dict[str, Any], already: bool
) -> None:
    from rich.table import Table

    from mimray.verbs.pretrain import shown, where_to_compare

    out = screen()
    if already:
        out.print(f"The run {record['name']} is finished; another one: run.seed=1, run.name=NAME.")
    table = Table(title=record["name"], title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("started from", record["weights"] or SCRATCH),
        ("top-1", f"{percent(result['top1'])} after the last epoch"),
        ("", f"{percent(result['top1_best'])} at the best of its evaluations, as papers state it"),
    ]
    if result["top1_average"] is not None:
        averages = percent(result["top1_average"]), percent(result["top1_average_best"])
        rows.append(("  of the average", f"{averages[0]}, best {averages[1]}; checkpoints hold it"))
    if result["top5"] is not None:
        rows.append(("top-5", percent(result["top5"])))
    if result["mean_per_class"] is not None:
        scores = percent(result["mean_per_class"]), percent(result["mean_per_class_best"])
        rows.append(("mean per class", f"{scores[0]}, best {scores[1]}"))
    rows += [
        ("cross entropy", shown(result["val_loss"], ".4f")),
        ("held out", f"{record['photos']['val']} pictures of {record['classes']} classes"),
        ("pictures a second", shown(result["images_per_s"], ".0f")),
        ("checkpoint", result["checkpoint"] or "-"),
        ("compare runs", where_to_compare(recipe.run.tracking)),
    ]
    for name, value in rows:
        table.add_row(name, value)
    out.print(table)
