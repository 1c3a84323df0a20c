"""The learning rate as a pure function of the step: no state, so a resume needs none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from mimray.durations import Clock
from mimray.recipe import Optim, Schedule

_LINEAR_END = 0.01
"""Share of the peak where `linear` ends, as in SimMIM's `lr_scheduler.py`."""


def learning_rate(
    step: int,
    peak: float,
    schedule: Schedule,
    clock: Clock,
    like_official: bool = False,
    micro_batches: int = 1,
) -> float:
    """Learning rate of optimiser step `step`, counted from 0; `clock.total` is the run's length.

    Linear warm-up, then the schedule's kind. Cosine and linear run from the end of the warm-up to the
    end of the run; milestones and `step_every` count from the start of the run. SimMIM's cosine
    starts at step 0 as well, and so drops where the warm-up ends; Swin-Transformer#278 mended it.

    `like_official`: that cosine, unless the schedule says otherwise, and the official loop's delay:
    it sets the rate behind an update, from the number of the micro-batch just done, counted from 0.
    So an update of `micro_batches` runs that part of a step late, and the first two have one rate.
    """
    assert clock.total is not None
    time = max(0.0, step - 1 / micro_batches) if like_official else float(step)
    warmup = _warmup_steps(schedule, clock)
    if time < warmup:
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * time / warmup
    if schedule.kind == "multistep":
        passed = sum(clock.steps(milestone) <= time for milestone in schedule.milestones)
        return peak * schedule.gamma**passed
    if schedule.kind == "step":
        assert schedule.step_every is not None, "Schedule asks for it"
        return peak * schedule.gamma ** (time // clock.steps(schedule.step_every))
    if schedule.kind == "linear":
        return peak * (1.0 - (1.0 - _LINEAR_END) * _share(time, warmup, clock.total))
    prefix = not like_official if schedule.warmup_prefix is None else schedule.warmup_prefix
    share = _share(time, warmup if prefix else 0, clock.total)
    return schedule.min_lr + (peak - schedule.min_lr) * 0.5 * (1.0 + math.cos(math.pi * share))


def rate_at(
    step: int, settings: Optim, schedule: Schedule, clock: Clock, micro_batches: int = 1
) -> Callable[[float], float]:
    """The learning rate of a step as a function of a parameter group's scale, of layer-wise decay.

    The whole schedule is scaled; with `like_official` the peak alone, as timm 0.4.12's schedulers do.
    """
    official = settings.like_official

    def at(peak: float) -> float:
        return learning_rate(step, peak, schedule, clock, official, micro_batches)

    if official:
        return lambda scale: at(settings.lr * scale)
    lr = at(settings.lr)
    return lambda scale: lr * scale


def _share(time: float, start: int, end: int) -> float:
    """How much of the way from `start` to `end` is behind `time`."""
    return (time - start) / max(1, end - start)


def _warmup_steps(schedule: Schedule, clock: Clock) -> int:
    """Steps of the warm-up, at most the run's; unlike other durations it may be none, as in `0ep`."""
    number = re.match(r"[\d.]+", schedule.warmup)
    assert number is not None and clock.total is not None
    return min(clock.steps(schedule.warmup), clock.total) if float(number[0]) else 0
