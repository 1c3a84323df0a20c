"""From a file and `section.key=value` words to a recipe, with errors of one line."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mimray.errors import UserError
from mimray.recipe.finetuning import FinetuneRecipe
from mimray.recipe.pretraining import Recipe
from mimray.recipe.yaml_file import read_yaml
from mimray.settings_errors import explain, nearest


def builtin_recipes() -> dict[str, Path]:
    """The recipes that come with mimray, by name: of pre-training, then of fine-tuning."""
    folder = Path(str(resources.files("mimray"))) / "recipes"
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("finetune/*.yaml"))]
    return {p.stem: p for p in files}


def whole(recipe: str) -> str:
    """A name or path that means the same in every folder."""
    return recipe if recipe in builtin_recipes() else str(Path(recipe).absolute())


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a pre-training recipe by name or path, with `section.key=value` overrides.

    Other training pictures without other validation pictures: those of the recipe are dropped, and
    some are held out.

    Raises UserError, in one line, for an unknown recipe or key and for values that do not fit.
    """
    if "task" in _read(path):  # said before settings that only a pre-training has
        raise UserError(f"{path} is a recipe for fine-tuning; `mimray recipe list` has others")
    recipe = load_any(path, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def load_finetune_recipe(
    path: str | Path, overrides: list[str] | tuple[str, ...] = ()
) -> FinetuneRecipe:
    """As `load_recipe`, for a recipe of fine-tuning, which has a `task`."""
    if "task" not in _read(path):  # said before settings that only a fine-tuning has
        raise UserError(f"{path} is a recipe for pre-training; `mimray recipe list` has others")
    recipe = load_any(path, overrides)
    assert isinstance(recipe, FinetuneRecipe)
    return recipe


def load_any(
    path: str | Path, overrides: list[str] | tuple[str, ...] = ()
) -> Recipe | FinetuneRecipe:
    """As `load_recipe`, for a recipe of either kind."""
    settings = _read(path)
    schema = FinetuneRecipe if "task" in settings else Recipe
    for override in overrides:
        _apply(settings, override, schema)
    named = {override.partition("=")[0] for override in overrides}
    if "data.train" in named and "data.val" not in named:
        settings["data"].pop("val", None)  # the recipe's own belongs to the recipe's own photos
    return _validate(settings, schema)


def validate_recipe(settings: dict[str, Any]) -> Recipe:
    """Check settings that are already a dictionary. Raises UserError."""
    recipe = _validate(settings, Recipe)
    assert isinstance(recipe, Recipe)
    return recipe


def _validate(
    settings: dict[str, Any], schema: type[Recipe] | type[FinetuneRecipe]
) -> Recipe | FinetuneRecipe:
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        raise UserError(explain(error, schema)) from None


def _read(path: str | Path) -> dict[str, Any]:
    """A recipe's sections, as its file has them."""
    known = builtin_recipes()
    file = known.get(str(path), Path(path))
    if "=" in str(path):
        raise UserError(f"the recipe comes first, then settings: demo {path}")
    if not file.is_file():
        like = nearest(str(path), list(known))
        raise UserError(f"no recipe {str(path)!r}, which is a YAML file or a name{like}")
    try:
        settings = read_yaml(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    settings = {} if settings is None else settings  # an empty file is all defaults
    if not isinstance(settings, dict):
        raise UserError(f"{file}: a recipe is a list of sections, like `mask: {{unit: 32}}`")
    return {"name": file.stem} | settings


def _is_text(schema: type[BaseModel], section: str, key: str) -> bool:
    """Whether a setting is plain text, which needs no YAML: run.name=2024, run.tracking=off."""
    known = schema.model_fields.get(section)
    fields = getattr(known.annotation, "model_fields", {}) if known else {}
    return key in fields and fields[key].annotation in (str, str | None)


def _apply(settings: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    """Set one dotted `section.key=value` in nested settings; the value is YAML."""
    dotted, equals, text = override.partition("=")
    parts = dotted.split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise UserError(f"{override!r} is not an override; write it like mask.ratio=0.5")
    section = settings.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise UserError(f"{override!r}: {parts[0]!r} is not a section")
    try:
        plain = _is_text(schema, *parts) and text != "null" and text[:1] not in ("", "'", '"')
        section[parts[1]] = text if plain else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"{override!r}: the value is not YAML; put it in quotes") from None
