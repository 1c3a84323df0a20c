"""`mimray analyze KIND`: what a trained model does inside, and what explains its results."""

from __future__ import annotations

import argparse
from importlib import import_module

_DIAGNOSTICS = ("attention", "cka", "receptive-field", "kernels", "health", "all")


def run(arguments: argparse.Namespace) -> int:
    """Run one kind."""
    kind = "diagnosis" if arguments.action in _DIAGNOSTICS else arguments.action.replace("-", "_")
    status: int = import_module(f"mimray.verbs.analyze.{kind}").run(arguments)
    return status
