"""`mimray recipe list` and `mimray recipe show RECIPE`."""

from __future__ import annotations

import argparse

from mimray.errors import UserError
from mimray.recipe import builtin_recipes, load_any


def run(arguments: argparse.Namespace) -> int:
    """List the recipes by their first line, or print one with every setting as YAML."""
    if arguments.action == "list":
        known = builtin_recipes()
        width = max(map(len, known)) + 2
        for name, path in known.items():
            first = path.read_text().split("\n", 1)[0].lstrip("# ")
            print(f"{name:<{width}}{first.split(':', 1)[-1].strip()}")
        return 0
    if arguments.recipe is None:
        raise UserError("recipe show: name a recipe; `mimray recipe list` has them")
    print(load_any(arguments.recipe, arguments.overrides).to_yaml(), end="")
    return 0
