"""Optuna for Ray Tune, over cells of a grid: none is asked for twice.

Tune's own `OptunaSearch` asks for a known cell again and again once it is the best, and with several trials
at once for one that is under way, which would be two writers of one run.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

Place = tuple[int, ...]
"""Of a cell's values in the lists of its grid."""

_TRIES = 50  # of Optuna, before a cell is drawn that nobody has seen


class OptunaSearch(Searcher):
    """`known`: cells that need no more, and their worth; `begun`: those to ask for first."""

    def __init__(
        self,
        grid: Mapping[str, Sequence[Any]],
        known: Mapping[Place, float],
        begun: Sequence[Place],
        seed: int,
    ) -> None:
        super().__init__(metric="objective", mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.names = list(grid)
        self.space = {name: _distribution(values) for name, values in grid.items()}
        # another start asks for other cells than the first did, of which it knows already
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        for place, worth in known.items():
            self.study.add_trial(
                create_trial(params=self._named(place), distributions=self.space, value=worth)
            )
        for place in begun:
            self.study.enqueue_trial(self._named(place))
        self.free = set(itertools.product(*map(range, map(len, grid.values())))) - set(known)
        self.draw = random.Random(seed)  # noqa: S311
        self.asked: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The places of another cell's values, by name; None where there is no other."""
        if not self.free:
            return None
        for _ in range(_TRIES):
            trial = self.study.ask(self.space)
            if self._place(trial) in self.free:
                break
            self.study.tell(trial, state=TrialState.FAIL)  # it learns nothing by it
        else:
            self.study.enqueue_trial(self._named(self.draw.choice(sorted(self.free))))
            trial = self.study.ask(self.space)
        self.free.remove(self._place(trial))
        self.asked[trial_id] = trial
        return dict(trial.params)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass  # the last one counts

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self.asked.pop(trial_id)
        if error or result is None or "failed" in result:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, result["objective"])

    def save(self, checkpoint_path: str) -> None:
        pass  # another start is told what the runs' folders know

    def restore(self, checkpoint_path: str) -> None:
        pass

    def _named(self, place: Place) -> dict[str, Any]:
        return dict(zip(self.names, place, strict=True))

    def _place(self, trial: optuna.Trial) -> Place:
        return tuple(trial.params[name] for name in self.names)


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Of places: of values that rise, neighbours are alike."""
    numbers = all(type(value) in (int, float) for value in values)
    if numbers and list(values) == sorted(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(range(len(values)))
