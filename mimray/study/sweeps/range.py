"""Numbers that a search draws from a range, and not from a list."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from mimray.recipe import Section

_DIGITS = 4  # significant ones of what is drawn: a table shows it as it is


class Range(Section):
    """From `low` to `high`, both within; whole numbers where both ends are. With `log` its logarithm is
    drawn evenly: between 0.0001 and 0.01 as many lie below 0.001 as above."""

    low: int | float = Field(allow_inf_nan=False)
    high: int | float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _has_values(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g} is not below high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(
                f"low={self.low:g} has no logarithm; give a low above 0, or leave log out"
            )
        return self

    def at(self, share: float) -> int | float:
        """What lies at a `share` of the way, 0 to 1."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        end = self.high + whole  # each whole number has a part of the way
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(end) - math.log(self.low)))
        else:
            value = self.low + share * (end - self.low)
        rounded = math.floor(value) if whole else float(f"{value:.{_DIGITS}g}")
        return min(self.high, max(self.low, rounded))

    def places(self, count: int) -> list[int | float]:
        """At most `count` values that rise by even steps, both ends among them."""
        return list(dict.fromkeys(self.at(number / (count - 1)) for number in range(count)))

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' (log)' if self.log else ''}"
