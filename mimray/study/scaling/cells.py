"""From a study's file to its cells, each with the recipe that pre-trains it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mimray.errors import UserError
from mimray.recipe import Recipe, load_recipe
from mimray.recipe.yaml_file import as_words, check_words, read_as
from mimray.shares import share
from mimray.study.cell import Cell
from mimray.study.placing import settled
from mimray.study.scaling.study import Settings, Study
from mimray.train.tasks.check_pretraining import check_model

NEEDED = ("recipe", "encoders", "subsets", "lengths")
FILE = "study.yaml"
_AMOUNT = re.compile(r"([\d.eE+-]+)\s*(ep|it|img)")
_JSON = (bool, int, float, str, list, dict, type(None))
_SAME = ("mask", "target")
_SAME_PICTURES = ("val", "val_seed", "val_fraction", "upright")
_OWN = {
    "model.encoder": "encoders",
    "data.subset": "subsets",
    "schedule.length": "lengths",
    "run.seed": "seeds",
    "run.name": "name",
    "run.experiment": "name",
}
"""Settings that a study gives to its cells itself, and where its file says them."""


@dataclass(frozen=True)
class Laid:
    """A study that has been read: `cells`, and the recipe `base` without encoder, subset and length."""

    study: Study
    base: Recipe
    cells: tuple[Cell, ...]


def load_study(path: str, overrides: list[str]) -> Laid:
    """Read a study, or the folder of one that has begun, and lay out its cells, all checked.

    `overrides` are as if they stood in its `set`. Raises UserError in one line, naming the cell that does
    not fit.
    """
    study = _read(path)
    check_words(overrides, Study, "study", path)
    _check_words(study, [word.partition("=")[0] for word in overrides])
    try:
        base = load_recipe(study.recipe, [*as_words(study.set), *overrides])
    except UserError as error:
        raise UserError(f"study {study.name}: {error}") from None
    told = study.set | dict(_split(word) for word in overrides)
    study = study.model_copy(update={"set": told})
    product = itertools.product(study.encoders, study.subsets, sorted(study.lengths), study.seeds)
    cells = tuple(_cell(study, base, *which) for which in product)
    _check_names(study, cells)
    _check_comparable(study, cells)
    _check_models(study, cells)
    return Laid(study, base, cells)


def said(cell: Cell) -> str:
    """A cell for people."""
    values = cell.values
    seed = f", seed {values['seed']}" if "seed" in values else ""
    return f"{values['model']}, {values['data']}, {values['iterations']} iterations{seed}"


def as_yaml(study: Study) -> str:
    """The study with all that was said of it, as YAML that reads back the same."""
    return yaml.safe_dump(study.model_dump(mode="json", exclude_none=True), sort_keys=False)


def _read(path: str) -> Study:
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / FILE
    if not file.is_file():
        raise UserError(
            f"no study {path!r}: a YAML file, like tuning/scaling_photos.yaml, or a study's folder"
        )
    return read_as(file, Study, "study", NEEDED)


def _check_words(study: Study, words: list[str]) -> None:
    """Raises UserError for a setting that would do nothing where it stands, for the study itself, or each
    of its encoders or subsets, says another. `words`: those behind the file."""
    kinds = {"encoders": study.encoders, "subsets": study.subsets}
    named = [
        (f"in {kind}.{name}", own) for kind, given in kinds.items() for name, own in given.items()
    ]
    for place, names in (("behind the file", words), ("in set", study.set), *named):
        for name in names:
            owner = _OWN.get(name)
            if owner is not None and not place.startswith(f"in {owner}."):
                raise UserError(
                    f"study {study.name}: {name} {place} does nothing, for a study has it under {owner}: "
                    f"in its file; say it there"
                )
    for name in dict.fromkeys([*words, *study.set]):
        for kind, given in kinds.items():
            # other tasks than pre-training take the study's own pictures
            if not name.startswith("data.") and all(name in own for own in given.values()):
                raise UserError(
                    f"study {study.name}: {name} does nothing, for each of {kind}: has its own; change it "
                    f"there"
                )


def _cell(study: Study, base: Recipe, encoder: str, subset: str, length: int, seed: int) -> Cell:
    values = {"model": encoder, "data": subset, "iterations": length}
    if len(study.seeds) > 1:
        values |= {"seed": seed}
    cell = Cell(values, base)
    pictures = _subset(study.subsets[subset])
    if base.data.val is not None:  # other training pictures bring no others to validate on
        pictures = {"data.val": base.data.val} | pictures
    own = study.encoders[encoder] | pictures | {"run.seed": seed}
    try:
        recipe = load_recipe(study.recipe, as_words(study.set | own))
        recipe = recipe.model_copy(update={"schedule": stretched(recipe, length)})
        named = {"name": f"{study.name}-{recipe.digest()[:8]}", "experiment": study.name}
        recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update=named)})
    except UserError as error:
        raise UserError(f"study {study.name}, {said(cell)}: {error}") from None
    return settled(Cell(values, recipe))


def _subset(settings: Settings) -> Settings:
    """Without a share that is everything, which is no subset."""
    chosen = settings.get("data.subset")
    whole = isinstance(chosen, str) and share(chosen) == 1.0
    return settings | {"data.subset": None} if whole else settings


def stretched(recipe: Recipe, length: int) -> Any:
    """The recipe's schedule over another length: what it says of itself in iterations, epochs or pictures
    becomes the same share of the new length.

    Raises UserError where a duration and the recipe's length are in epochs and not.
    """
    schedule = recipe.schedule
    update = {
        name: _as_share(getattr(schedule, name), f"schedule.{name}", recipe)
        for name in ("warmup", "step_every")
        if getattr(schedule, name) is not None
    }
    milestones = tuple(_as_share(m, "schedule.milestones", recipe) for m in schedule.milestones)
    whole: dict[str, Any] = {"length": f"{length}it", "milestones": milestones}
    return schedule.model_copy(update=whole | update)


def _as_share(duration: str, setting: str, recipe: Recipe) -> str:
    if duration.endswith("%"):
        return duration
    part, whole = (_amount(text, recipe.optim.batch) for text in (duration, recipe.schedule.length))
    if part[1] != whole[1]:
        raise UserError(
            f"{setting}={duration} and schedule.length={recipe.schedule.length} are in other units, and a "
            f"study stretches the one with the other; write {setting} as a share, like 5%"
        )
    return f"{100 * part[0] / whole[0]:.10g}%"


def _amount(duration: str, batch: int) -> tuple[float, bool]:
    """In epochs (True) or iterations (False)."""
    match = _AMOUNT.fullmatch(duration)
    assert match is not None, "the recipe has been checked"
    return float(match[1]) / (batch if match[2] == "img" else 1), match[2] == "ep"


def _split(word: str) -> tuple[str, Any]:
    """A word of the command line, which `load_recipe` has understood, as a setting and its value."""
    name, _, text = word.partition("=")
    value = yaml.safe_load(text)
    plain = isinstance(value, bool) and text not in ("true", "false")  # run.tracking=off
    return name, text if plain or not isinstance(value, _JSON) else value


# ----- all cells together ---------------------------------------------------------------------------------


def _check_names(study: Study, cells: tuple[Cell, ...]) -> None:
    known: dict[str, Cell] = {}
    for cell in cells:
        if (other := known.setdefault(cell.name, cell)) is not cell:
            raise UserError(
                f"study {study.name}, {said(cell)}: is the same run as {said(other)}; leave one out"
            )


def _check_models(study: Study, cells: tuple[Cell, ...]) -> None:
    """Once for each encoder: the model is built, on no device."""
    for cell in {cell.values["model"]: cell for cell in cells}.values():
        try:
            check_model(cell.recipe)
        except UserError as error:
            raise UserError(f"study {study.name}, {said(cell)}: {error}") from None


def _check_comparable(study: Study, cells: tuple[Cell, ...]) -> None:
    """Raises UserError where the validation loss would mean something else from cell to cell."""
    first = cells[0].recipe
    for cell in cells[1:]:
        own = cell.recipe
        where = f"study {study.name}, {said(cell)}: validation losses do not compare with those of "
        other = next((n for n in _SAME if getattr(own, n) != getattr(first, n)), None)
        if own.model.image_size != first.model.image_size:
            other = "model.image_size"
        for name in _SAME_PICTURES:
            if getattr(own.data, name) != getattr(first.data, name):
                other = f"data.{name}"
        if other is not None:
            raise UserError(f"{where}{said(cells[0])}, for {other} differs; set it for all cells")
        if own.data.val is None and own.data.train != first.data.train:
            raise UserError(
                f"{where}{said(cells[0])}, for the held-out pictures are from other data; set data.val"
            )
