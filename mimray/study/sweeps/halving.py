"""Tune's asynchronous successive halving, over shares of a run's length, and what it heard before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from mimray.study.sweeps.sweep import Stop
from mimray.study.sweeps.trial import Result

_END = 0.999  # no trial is ended that has come to its end anyway
_HAIR = 1e-9  # 0.1 x 3 is more than 0.3, and a look at 0.3 would be missed


class Halving(ASHAScheduler):
    """`ended` hears of every trial that is ended, with its last result.

    Trials are known by their runs' names, which are the same in every start; Tune's own names are not. So a
    trial that goes on is looked at only where it has not been before.
    """

    def __init__(self, stop: Stop, ended: Callable[[Result], None]) -> None:
        super().__init__(
            time_attr="progress",
            metric="score",
            mode="max",
            max_t=_END,  # type: ignore[arg-type]  # any number that grows
            grace_period=stop.grace - _HAIR,  # type: ignore[arg-type]
            reduction_factor=stop.reduction_factor,
            stop_last_trials=False,
        )
        self._ended = ended
        self._runs: dict[str, Any] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        pass  # its first result says which run it is

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Result) -> str:
        verdict = self._look(result)
        if verdict == TrialScheduler.STOP:
            self._ended(result)
        return verdict

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Result) -> None:
        pass  # its end is no look

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        pass

    def remember(self, run: str, curve: Iterable[list[float]]) -> None:
        """Let what a trial told in an earlier start count: [progress, score] of its validations. It has
        passed these looks, also against trials that come later."""
        for progress, score in curve:
            self._look({"run": run, "progress": progress, "score": score})

    def _look(self, result: Result) -> str:
        if result["progress"] >= _END:
            return str(TrialScheduler.CONTINUE)
        run = result["run"]
        if run not in self._runs:
            self._runs[run] = SimpleNamespace(trial_id=run)
            super().on_trial_add(None, self._runs[run])  # type: ignore[arg-type]
        return super().on_trial_result(None, self._runs[run], result)  # type: ignore[arg-type]
