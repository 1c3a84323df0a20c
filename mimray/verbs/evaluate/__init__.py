"""`mimray evaluate linear|knn|suite`: what a checkpoint is worth for recognition."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from mimray.environment import project_folder, start_folder
from mimray.errors import UserError

_MODULES = {"linear": "frozen", "knn": "frozen", "suite": "suite"}


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    module = import_module(f"mimray.verbs.evaluate.{_MODULES[arguments.action]}")
    status: int = module.run(arguments)
    return status


def storage_of(given: str | None) -> Path:
    """A local folder, absolute. Raises UserError for a store: features are mapped from files."""
    if given is None:
        return project_folder() / "runs"
    if "://" in given:
        raise UserError(f"--storage {given}: features are mapped from files; name a local folder")
    return start_folder() / Path(given).expanduser()


def check_writable(storage: Path) -> None:
    """Raises UserError where a folder cannot be made."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--storage {storage}: cannot be written ({error.strerror})") from None


def percent(value: float | None) -> str:
    """A share of 1 as people read it."""
    return "-" if value is None else f"{value:.2%}"
