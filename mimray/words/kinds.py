"""What a word of the command line may be."""

from __future__ import annotations

import argparse
import math

from mimray import shares

OVERRIDES = "settings that differ from the recipe's, like mask.ratio=0.5 (see `mimray recipe show`)"


def share(word: str) -> float:
    """`10%` or `0.1`; whether it is a share of something is for others to say."""
    found = shares.share(word)
    if math.isnan(found):
        raise argparse.ArgumentTypeError(f"{word!r} is not a share; write it like 10% or 0.1")
    return found


def count_or_all(word: str) -> int | None:
    """A positive number, or None for `all`."""
    if word == "all":
        return None
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a positive number nor `all`")
    return int(word)


def count(word: str) -> int:
    """A positive number."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive number")
    return int(word)
