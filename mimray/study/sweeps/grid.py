"""A grid of recipes from one YAML file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimray.durations import Clock
from mimray.errors import UserError
from mimray.recipe import CLASSIFIED, Mask, Recipe, load_recipe
from mimray.recipe.yaml_file import as_words, check_words, read_as
from mimray.study.cell import Cell
from mimray.study.sweeps.combinations import combinations_of
from mimray.study.sweeps.sweep import Sweep
from mimray.train.tasks.check_pretraining import check_model

_OTHER_PICTURES = (
    "model.image_size",
    "data.val",
    "data.val_seed",
    "data.val_fraction",
    "data.upright",
)
"""Settings over which no loss and no skill compares, whatever the mask; so do all of the target."""

_ANY_EPOCH = 1_000_000  # steps; only shares of a run are asked for


def load_sweep(path: str, overrides: list[str]) -> tuple[Sweep, list[Cell]]:
    """Read a sweep and lay out its cells, all checked; `overrides` apply to every cell.

    Of a random search the cells are those that are drawn, of Optuna's all that it may ask for.
    Raises UserError in one line, naming the cell that does not fit.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"no sweep {path!r}: a YAML file, like tuning/mask_grid.yaml")
    sweep = read_as(file, Sweep, "sweep", ("recipe", "grid"))
    check_words(overrides, Sweep, "sweep", path)
    for name in (word.partition("=")[0] for word in overrides):
        if name in sweep.names:
            raise UserError(
                f"{name} varies in the grid of {path}: leave the word out, or change the grid"
            )
    combinations = combinations_of(sweep)
    recipes = [_recipe(sweep, values, overrides) for values in combinations]
    _check_looks(sweep, recipes)
    reference = _reference(sweep, recipes, overrides)
    built: dict[str, int] = {}
    cells = [_cell(sweep, values, recipe, reference, built)
             for values, recipe in zip(combinations, recipes, strict=True)]  # fmt: skip
    _check_names(sweep, cells)
    return sweep, cells


def _recipe(sweep: Sweep, values: dict[str, Any], overrides: list[str]) -> Recipe:
    try:
        return load_recipe(sweep.recipe, [*as_words(sweep.set | values), *overrides])
    except UserError as error:
        raise UserError(f"{_place(sweep, values)}: {error}") from None


def _place(sweep: Sweep, values: dict[str, Any]) -> str:
    return f"sweep {sweep.name}, cell " + " ".join(f"{k}={v}" for k, v in values.items())


def _check_looks(sweep: Sweep, recipes: list[Recipe]) -> None:
    """Raises UserError where trials would be looked at only after the first of them should have ended."""
    if sweep.stop is None:
        return
    grace = sweep.stop.grace
    for recipe in recipes:
        every, length = recipe.run.validate_every, recipe.schedule.length
        if every.endswith("ep") != length.endswith("ep") and not every.endswith("%"):
            continue  # nobody knows yet how many pictures there are
        clock = Clock(_ANY_EPOCH, recipe.optim.batch)
        total = clock.steps(length)
        if replace(clock, total=total).steps(every) > 1.01 * grace * total:
            raise UserError(
                f"sweep {sweep.name}: run.validate_every={every} of {length} looks at trials later than "
                f"stop.grace={grace:g} asks for; set run.validate_every={100 * grace:g}%"
            )


# ----- one mask for all -----------------------------------------------------------------------------------


def _reference(sweep: Sweep, recipes: list[Recipe], overrides: list[str]) -> Mask | None:
    """The mask under which all cells are looked at; None where their own is the same, or nobody asks."""
    if sweep.measures_skill:
        _check_comparable(sweep, recipes)
    if sweep.reference_mask is not None:
        return sweep.reference_mask
    if not sweep.measures_skill or len({recipe.mask.model_dump_json() for recipe in recipes}) == 1:
        return None
    try:
        return load_recipe(sweep.recipe, [*as_words(sweep.set), *overrides]).mask
    except UserError as error:
        raise UserError(
            f"sweep {sweep.name}: its cells have masks of their own and need a reference_mask, like "
            f"{{unit: 32, ratio: 0.6}}, for the recipe's does not fit ({error})"
        ) from None


def _check_comparable(sweep: Sweep, recipes: list[Recipe]) -> None:
    """Raises UserError where skill would mean something else from cell to cell, or there is none."""
    other = next((n for n in sweep.names if n.startswith("target.") or n in _OTHER_PICTURES), None)
    if other is not None:
        raise UserError(
            f"sweep {sweep.name}: skill does not compare over {other}; take objective: finetune or knn, "
            f"and no stop"
        )
    held_out = any(recipe.data.val is None for recipe in recipes)
    if held_out and len({recipe.data.train for recipe in recipes}) > 1:
        raise UserError(
            f"sweep {sweep.name}: skill does not compare over data.train where pictures to validate on are "
            f"held out from it; set data.val, the same for all, or take objective: finetune and no stop"
        )
    kind = recipes[0].target.kind
    if kind in CLASSIFIED:
        raise UserError(
            f"sweep {sweep.name}: target.kind={kind} is classified and has no skill; take objective: "
            f"finetune or knn, and no stop"
        )


def _cell(
    sweep: Sweep,
    values: dict[str, Any],
    recipe: Recipe,
    reference: Mask | None,
    built: dict[str, int],
) -> Cell:
    """With a name that says what was computed, the reference mask's metrics among it."""
    told = recipe.digest()
    if reference is not None:
        told = hashlib.sha256(f"{told} {reference.model_dump_json()}".encode()).hexdigest()
    named = {"name": f"{sweep.name}-{told[:8]}", "experiment": sweep.name}
    run = recipe.run.model_copy(update=named | {"reference_mask": reference})
    cell = Cell(values, recipe.model_copy(update={"run": run}))
    try:
        check_model(cell.recipe, built)
    except UserError as error:
        raise UserError(f"{_place(sweep, values)}: {error}") from None
    return cell


def _check_names(sweep: Sweep, cells: list[Cell]) -> None:
    """Raises UserError where two cells are one run, for they differ in nothing that changes a result."""
    known: dict[str, Cell] = {}
    for cell in cells:
        if (other := known.setdefault(cell.name, cell)) is not cell:
            raise UserError(
                f"{_place(sweep, cell.values)}: is the same run as cell {other.words}; leave one out"
            )
