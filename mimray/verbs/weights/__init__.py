"""`mimray weights inspect|convert`: look into checkpoints, and give them other projects' names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mimray.errors import UserError
from mimray.weights import read, recognise
from mimray.weights.formats import Format, Translated, Weights


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    status: int = import_module(f"mimray.verbs.weights.{arguments.action}").run(arguments)
    return status


@dataclass
class Opened:
    """A checkpoint: under the file's own names, and under mimray's."""

    own: Weights
    format: Format
    translated: Translated


def open_weights(file: str) -> Opened:
    """Read a checkpoint of any format. Raises UserError where it is none, or none that is known."""
    with user_errors():
        own = read(file)
    with user_errors(f"{Path(file).expanduser()}: "):
        found = recognise(own)
        return Opened(own, found, found.read(own))


@contextmanager
def user_errors(start: str = "") -> Iterator[None]:
    """The science says ValueError where the user is to mend something; here that is a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{start}{error}") from error


def not_finite(weights: Weights) -> list[str]:
    """Names of the weights that hold NaN or infinity."""
    import torch

    return [
        name
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
