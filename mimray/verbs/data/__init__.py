"""`mimray data inspect|prepare|subset`: look at pictures, prepare them, choose some of them."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    status: int = import_module(f"mimray.verbs.data.{arguments.action}").run(arguments)
    return status
