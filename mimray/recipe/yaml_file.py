"""YAML files that people write: settings by name, each said once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mimray.errors import UserError
from mimray.settings_errors import explain, nearest

M = TypeVar("M", bound=BaseModel)


class _Once(yaml.SafeLoader):
    """YAML itself takes the last of two equal names, and drops what the first said without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in known:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is set twice", key.start_mark
                )
            known.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> Any:
    """What a file holds; None where it is empty.

    Raises ValueError, in one line, for what is no YAML, names a Python object, or sets a name twice.
    """
    try:
        loader = _Once(file.read_text())
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date like 2026-13-01
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """A file's settings of a recipe as they are said behind one, like `mask.ratio=0.6`."""
    if settings.get("run.tracking") is False:  # YAML reads a bare `off` as false
        settings = {**settings, "run.tracking": "off"}
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]  # JSON is YAML


def check_words(words: Sequence[str], schema: type[BaseModel], kind: str, file: str) -> None:
    """Raises UserError for words behind the file that belong into it, like objective=knn of a sweep; others
    are settings of a recipe."""
    for word in words:
        name, equals, value = word.partition("=")
        first, dot, rest = name.partition(".")
        if equals and first in schema.model_fields:
            parts = rest.split(".", 1) if rest.startswith("set.") else [rest]
            line = f"{': {'.join([first, *parts])}: {value}{'}' * len(parts)}"
            raise UserError(
                f"{word!r}: {first} is of the {kind} and not of its recipe; {file} is to say "
                f"`{line if dot else f'{first}: {value}'}`"
            )


def read_as(file: Path, schema: type[M], kind: str, needed: Sequence[str]) -> M:
    """A file's settings, with its own name for `name` where it says none. `kind`: what it is to be, like
    `sweep`; `needed`: settings that it cannot do without.

    Raises UserError, in one line, as `read_yaml`, where it is empty or a list, and for settings that are
    not known, not there or do not fit.
    """
    try:
        settings = read_yaml(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file}: not a {kind}: it holds no settings, like `recipe: demo`")
    if strange := [str(name) for name in settings if name not in schema.model_fields]:
        known = nearest(strange[0], list(schema.model_fields))
        raise UserError(f"{file}: {strange[0]} is not a setting of a {kind}{known}")
    if missing := [name for name in needed if name not in settings]:
        raise UserError(f"{file}: has no {missing[0]}; a {kind} needs {', '.join(needed)}")
    try:
        return schema.model_validate({"name": file.stem} | settings)
    except ValidationError as error:
        raise UserError(f"{file}: {explain(error, schema)}") from None
