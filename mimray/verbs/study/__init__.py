"""`mimray study run`, `status` and `report`: what more data, a larger model or longer training is worth."""

from __future__ import annotations

import argparse
from importlib import import_module

_MODULES = {"run": "running"}  # a module of that name would stand in this package for `run` below


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    name = _MODULES.get(arguments.action, arguments.action)
    status: int = import_module(f"mimray.verbs.study.{name}").run(arguments)
    return status
