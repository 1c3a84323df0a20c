"""Values of all cells: a grid's combinations, those that are drawn, or those that Optuna may ask for."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

from mimray.errors import UserError
from mimray.study.sweeps.range import Range
from mimray.study.sweeps.sweep import Sweep, Values

Combination = dict[str, Any]

PLACES = 20
"""Values of a range among which Optuna chooses: its cells are all laid out and checked before it asks."""
_MOST = 500  # cells of Optuna, for each is checked before the first starts
_TRIES = 100  # for each cell that is drawn, before there are no others


def combinations_of(sweep: Sweep) -> list[Combination]:
    """Of every cell; of those that are drawn, more `samples` of the same seed begin with the same cells.

    Raises UserError where there are fewer than `samples`, or too many for Optuna.
    """
    if sweep.search == "random" and sweep.ranges:
        return _drawn_from_ranges(sweep)
    if sweep.search == "optuna":
        _check_number(sweep)
    listed = [values for grid in sweep.grid for values in _every(in_lists(grid))]
    if sweep.samples is not None and sweep.samples > len(listed):
        raise UserError(
            f"sweep {sweep.name}: samples={sweep.samples} and there are {len(listed)} cells; "
            f"search=grid runs them all"
        )
    if sweep.search == "random":
        assert sweep.samples is not None
        random.Random(sweep.seed).shuffle(listed)  # noqa: S311  # `sample` draws others for other numbers
        return listed[: sweep.samples]
    return listed


def in_lists(grid: Values) -> dict[str, list[Any]]:
    """A grid with values of its ranges in their place."""
    return {
        name: values.places(PLACES) if isinstance(values, Range) else values
        for name, values in grid.items()
    }


def _check_number(sweep: Sweep) -> None:
    count = math.prod(len(values) for values in in_lists(sweep.grid[0]).values())
    if count > _MOST:
        how = "; list fewer values"
        if sweep.ranges:
            how = f", a range counting for {PLACES} values; list a few values of {sweep.ranges[-1]}"
        raise UserError(
            f"sweep {sweep.name}: search=optuna chooses among {_MOST} cells at most, and here are {count}"
            f"{how}, or take search: random"
        )


def _every(grid: dict[str, list[Any]]) -> list[Combination]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _drawn_from_ranges(sweep: Sweep) -> list[Combination]:
    """All different. Raises UserError where there are fewer than `samples`."""
    assert sweep.samples is not None
    kept = [{n: [v] if isinstance(v, Range) else v for n, v in grid.items()} for grid in sweep.grid]
    patterns = [pattern for grid in kept for pattern in _every(grid)]
    draw = random.Random(sweep.seed)  # noqa: S311
    found: dict[str, Combination] = {}
    for _ in range(_TRIES * sweep.samples):
        pattern = draw.choice(patterns)
        values = {n: v.at(draw.random()) if isinstance(v, Range) else v for n, v in pattern.items()}
        found.setdefault(json.dumps(values, default=str), values)
        if len(found) == sweep.samples:
            return list(found.values())
    raise UserError(
        f"sweep {sweep.name}: samples={sweep.samples} and its ranges and lists have {len(found)} cells; "
        f"ask for fewer"
    )
