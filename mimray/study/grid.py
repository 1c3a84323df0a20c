"""A grid of recipes from one YAML file, and what is known of each cell."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from mimray.errors import UserError
from mimray.recipe import NAME, Recipe, Section, load_recipe
from mimray.settings_errors import explain
from mimray.train.run_folder import RunFolder
from mimray.train.tasks.check_pretraining import check_model


class Sweep(Section):
    """A recipe, settings that all cells share, and the values that they do not."""

    name: str = Field("sweep", pattern=NAME)
    recipe: str
    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)


@dataclass(frozen=True)
class Cell:
    """One combination: its values by setting, and the recipe that runs it."""

    values: dict[str, Any]
    recipe: Recipe

    def outcome(self) -> dict[str, Any]:
        """Values, status and final metrics, from the run folder alone."""
        record = RunFolder.of(self.recipe).record() or {"status": "waiting", "final": {}}
        final = {k: record["final"].get(k) for k in ("val/loss", "val/skill")}
        return {**self.values, "run": self.recipe.run_name(), "status": record["status"], **final}


def load_sweep(path: str, overrides: list[str]) -> tuple[Sweep, list[Cell]]:
    """Read a sweep and lay out its cells, all checked; `overrides` apply to every cell.

    Raises UserError in one line, naming the cell that does not fit.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"no sweep {path!r}: a YAML file, like tuning/mask_grid.yaml")
    try:
        sweep = Sweep.model_validate({"name": file.stem} | yaml.safe_load(file.read_text()))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Sweep)}") from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a sweep: {' '.join(str(error).split())}") from None
    return sweep, [_cell(sweep, values, overrides) for values in _combinations(sweep.grid)]


def _combinations(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _cell(sweep: Sweep, values: dict[str, Any], overrides: list[str]) -> Cell:
    settings = [f"{k}={json.dumps(v)}" for k, v in (sweep.set | values).items()]  # JSON is YAML
    try:
        recipe = load_recipe(sweep.recipe, [*settings, *overrides])
        check_model(recipe)
    except UserError as error:
        where = " ".join(f"{k}={v}" for k, v in values.items())
        raise UserError(f"sweep {sweep.name}, cell {where}: {error}") from None
    named = {"name": f"{sweep.name}-{recipe.digest()[:8]}", "experiment": sweep.name}
    return Cell(values, recipe.model_copy(update={"run": recipe.run.model_copy(update=named)}))
