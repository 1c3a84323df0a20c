"""`mimray study report`: what a study of data, models and lengths says."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    status: int = import_module(f"mimray.verbs.study.{arguments.action}").run(arguments)
    return status
