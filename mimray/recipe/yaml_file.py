"""YAML files that people write: settings by name, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


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


def read_settings(file: Path, kind: str) -> dict[str, Any]:
    """A file's settings. `kind`: what it is to be, like `a sweep`.

    Raises ValueError, in one line, as `read_yaml`, and where it is empty or a list.
    """
    settings = read_yaml(file)
    if not isinstance(settings, dict):
        raise ValueError(f"not {kind}: it holds no settings, like `recipe: demo`")
    return settings
