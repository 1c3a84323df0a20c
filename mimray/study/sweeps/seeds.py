"""Trials that differ in nothing but their seed are one candidate, which is worth what they are on average.

The best single run of several seeds is the luckiest: the more runs a candidate has, the better its best one
looks, whatever it is worth.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from mimray.study.sweeps.sweep import Sweep

Rows = list[dict[str, Any]]

SEED = "run.seed"


@dataclass(frozen=True)
class Candidate:
    """`values`: its settings but the seed; `rows`: its finished ones of `sweep_rows`, at least one."""

    values: dict[str, Any]
    rows: Rows

    @property
    def objective(self) -> float:
        """Mean over its runs."""
        return statistics.fmean(row["objective"] for row in self.rows)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation between its runs; None of a single one."""
        if len(self.rows) < 2:
            return None
        return statistics.stdev(row["objective"] for row in self.rows)

    @property
    def told(self) -> dict[str, Any]:
        """For tables."""
        worth = {"objective": self.objective, "deviation": self.deviation, "runs": len(self.rows)}
        return self.values | worth


def candidates(sweep: Sweep, rows: Rows) -> list[Candidate]:
    """Those of which any run is finished, in the order of the rows."""
    names = [name for name in sweep.names if name != SEED]
    found: dict[str, Candidate] = {}
    for row in rows:
        if row["objective"] is not None:
            values = {name: row[name] for name in names}
            found.setdefault(str(values), Candidate(values, [])).rows.append(row)
    return list(found.values())


def compared(known: list[Candidate]) -> list[Candidate]:
    """Those with as many finished runs as any has: a mean of few beats one of many by luck."""
    most = max((len(one.rows) for one in known), default=0)
    return [one for one in known if len(one.rows) == most]


def best_of(known: list[Candidate]) -> Candidate | None:
    """The best mean of those that compare; the first of equal ones."""
    return max(compared(known), key=lambda one: one.objective, default=None)


def lead_of(known: list[Candidate]) -> float | None:
    """What the best is above the median of those that compare; None below three."""
    values = [one.objective for one in compared(known)]
    return max(values) - statistics.median(values) if len(values) > 2 else None
