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
    """`ended` hears of every trial that is ended, with its last result."""

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

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Result) -> str:
        if result["progress"] >= _END:
            return str(TrialScheduler.CONTINUE)
        verdict = super().on_trial_result(tune_controller, trial, result)
        if verdict == TrialScheduler.STOP:
            self._ended(result)
        return verdict

    def remember(self, run: str, curve: Iterable[list[float]]) -> None:
        """Let a trial of an earlier start count: [progress, score] of its validations."""
        trial: Any = SimpleNamespace(trial_id=run)
        self.on_trial_add(None, trial)  # type: ignore[arg-type]
        for progress, score in curve:
            if progress < _END:
                told = {"progress": progress, "score": score}
                super().on_trial_result(None, trial, told)  # type: ignore[arg-type]
        self.on_trial_remove(None, trial)  # type: ignore[arg-type]
