"""`mimray data inspect|prepare|subset|clusters`: look at pictures, prepare, choose, cluster them."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from mimray.data.sources import Source, open_source
from mimray.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    status: int = import_module(f"mimray.verbs.data.{arguments.action}").run(arguments)
    return status


def open_split(uri: str, split: str) -> Source:
    """Open a split, and say so where the validation split asked for is all there is."""
    source = open_source(uri, split)
    if split == "val":
        try:
            alike = open_source(uri, "train").digest == source.digest
        except UserError:  # it has splits, and no training split
            alike = False
        if alike:
            print(
                f"mimray: {uri} has no splits: these are all its pictures, not a validation part",
                file=sys.stderr,
            )
    return source
