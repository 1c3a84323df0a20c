"""`mimray evaluate linear|knn|suite`: what a checkpoint is worth for recognition."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

from mimray.environment import project_folder, start_folder
from mimray.errors import RunFailed, UserError

_MODULES = {"linear": "frozen", "knn": "frozen", "suite": "suite"}


def run(arguments: argparse.Namespace) -> int:
    """Run one action. Raises RunFailed where a file can no longer be written, or be read."""
    module = import_module(f"mimray.verbs.evaluate.{_MODULES[arguments.action]}")
    try:
        status: int = module.run(arguments)
    except BrokenPipeError:  # whoever reads what is printed has gone
        raise
    except OSError as error:
        line = str(error).splitlines()[0]
        raise RunFailed(f"--storage {storage_of(arguments.storage)}: {line}") from error
    return status


def storage_of(given: str | None) -> Path:
    """A local folder, absolute. Raises UserError for a store: features are mapped from files."""
    if given is None:
        return project_folder() / "runs"
    if "://" in given:
        raise UserError(f"--storage {given}: features are mapped from files; name a local folder")
    return start_folder() / Path(given).expanduser()


def check_writable(storage: Path) -> None:
    """Raises UserError where no folder can be made, or no file in it."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=storage):
            pass
    except OSError as error:
        raise UserError(f"--storage {storage}: cannot be written ({error.strerror})") from None


def percent(value: float | None) -> str:
    """A share of 1 as people read it."""
    return "-" if value is None else f"{value:.2%}"
