"""Which cell comes next: from a list, or from Optuna, told of what earlier starts have found."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.sweeps.combinations import in_lists
from mimray.study.sweeps.sweep import Sweep


class Asked(NamedTuple):
    """Tune's `param_space`, `search_alg` and `num_samples`."""

    space: dict[str, Any]
    search: Any
    samples: int


class Choice(Protocol):
    """`total`: trials of the whole sweep."""

    total: int

    def name(self, config: dict[str, Any]) -> str:
        """The run of the cell that Tune means."""
        ...

    def ask(self, over: dict[str, float], begun: Sequence[str]) -> Asked:
        """For what is left. `over`: runs that need no more, and their worth; `begun`: those to go on."""
        ...


def choice_of(sweep: Sweep, cells: Sequence[Cell]) -> Choice:
    """The sweep's. Raises UserError where Optuna is asked for and not installed."""
    if sweep.search == "optuna":
        if find_spec("optuna") is None:
            raise UserError(
                "search=optuna needs Optuna: pip install 'mimray[optuna]', or take search: random"
            )
        return ByOptuna(sweep, cells)
    return Listed(sweep, cells)


class Listed:
    """Satisfies `Choice`: all cells. Where trials may be ended their order is drawn: a grid's own goes from
    one end of a setting to the other, and if each were better than those before, none would be ended."""

    def __init__(self, sweep: Sweep, cells: Sequence[Cell]) -> None:
        self.names = [cell.name for cell in cells]
        self.total = len(cells)
        if sweep.stop is not None:
            random.Random(sweep.seed).shuffle(self.names)  # noqa: S311

    def name(self, config: dict[str, Any]) -> str:
        return str(config["cell"])

    def ask(self, over: dict[str, float], begun: Sequence[str]) -> Asked:
        from ray import tune

        left = [name for name in self.names if name not in over]
        return Asked({"cell": tune.grid_search(left)}, None, 1)


class ByOptuna:
    """Satisfies `Choice`: a tree-structured Parzen estimator over the places of values in their lists."""

    def __init__(self, sweep: Sweep, cells: Sequence[Cell]) -> None:
        self.grid = in_lists(sweep.grid[0])
        assert sweep.samples is not None
        self.total, self.seed = sweep.samples, sweep.seed
        places = itertools.product(*(range(len(values)) for values in self.grid.values()))
        self.runs = dict(zip(places, (cell.name for cell in cells), strict=True))

    def name(self, config: dict[str, Any]) -> str:
        return self.runs[tuple(config[name] for name in self.grid)]

    def ask(self, over: dict[str, float], begun: Sequence[str]) -> Asked:
        from mimray.study.sweeps.optuna_search import OptunaSearch

        places = {run: place for place, run in self.runs.items()}
        known = {places[run]: worth for run, worth in over.items()}
        search = OptunaSearch(self.grid, known, [places[run] for run in begun], self.seed)
        return Asked({}, search, self.total - len(over))
