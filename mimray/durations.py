"""Lengths of training as people say them: `100ep`, `125000it`, `1.28e8img` or `10%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

_PATTERN = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(?P<unit>ep|it|img|%)")


def check_duration(text: object) -> str:
    """Return `text` if it is a duration. Raises ValueError otherwise."""
    match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or math.isinf(float(match["number"])):
        raise ValueError(
            f"{text!r} is not a duration; write it like 100ep, 125000it, 1.28e8img or 10%"
        )
    return match.string


def check_length(text: object) -> str:
    """Return `text` if it is a duration that needs no other to refer to. Raises ValueError."""
    length = check_duration(text)
    if length.endswith("%"):
        raise ValueError(
            f"{length!r}: the length of a run cannot be a share of itself; write 100ep"
        )
    return length


Duration = Annotated[str, BeforeValidator(check_duration)]
Length = Annotated[str, BeforeValidator(check_length)]


@dataclass(frozen=True)
class Clock:
    """What turns durations into optimiser steps.

    `total` is the run's length in steps, which `%` refers to; None while it is being resolved.
    """

    steps_per_epoch: int
    batch: int
    total: int | None = None

    def steps(self, duration: str) -> int:
        """Resolve a duration to optimiser steps, at least 1, rounded to the nearest.

        Raises ValueError for what is no duration, or for `%` where nothing is known to refer to.
        """
        match = _PATTERN.fullmatch(check_duration(duration))
        assert match is not None
        number, unit = float(match["number"]), match["unit"]
        if unit == "%" and self.total is None:
            raise ValueError(f"{duration!r}: the length of a run cannot be a share of itself")
        scale = {
            "ep": float(self.steps_per_epoch),
            "it": 1.0,
            "img": 1.0 / self.batch,
            "%": (self.total or 0) / 100.0,
        }[unit]
        return max(1, round(number * scale))
