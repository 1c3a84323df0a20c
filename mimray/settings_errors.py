"""Turns pydantic's errors into one line that names the setting, the value and the mend."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # floor 1 knows its names by `nearest`, and needs no pydantic
    from pydantic import BaseModel, ValidationError


def known_settings(schema: type[BaseModel]) -> list[str]:
    """Every `section.key` of a recipe, and the sections themselves."""
    from pydantic import BaseModel

    names: list[str] = []
    for section, field in schema.model_fields.items():
        names.append(section)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{section}.{key}" for key in field.annotation.model_fields]
    return names


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first error in one line, and how many more there are."""
    errors = error.errors(include_url=False)
    first = errors[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        line = f"{name} is not a setting{_nearest(name, known_settings(schema))}"
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        line = f"{name}: {message}" if name else message
    else:
        line = f"{name}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    more = len(errors) - 1
    return line + (f" (and {more} more)" if more else "")


def _nearest(name: str, known: list[str]) -> str:
    """`; did you mean ...?` by the dotted name or, for a key in the wrong section, by its last part."""
    matches = get_close_matches(name, known, n=2, cutoff=0.6)
    if not matches:
        last = name.rsplit(".", 1)[-1]
        by_key = {k.rsplit(".", 1)[-1]: k for k in known}
        matches = [by_key[m] for m in get_close_matches(last, list(by_key), n=2, cutoff=0.6)]
    return (
        f"; did you mean {' or '.join(matches)}?" if matches else "; see `mimray recipe show demo`"
    )


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean ...?`, or the known names."""
    matches = get_close_matches(name, known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(matches)}?" if matches else f"; known: {', '.join(known)}"
