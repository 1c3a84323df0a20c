"""A sweep's trials on Ray Tune: which of them, how many at once, and when one is ended.

Tune keeps nothing that counts: a finished trial is a fact in its run's folder, and one that was ended in
`sweep.json`, so the same command goes on after any end.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mimray.errors import MimrayError, Stopped
from mimray.evaluate.cells import Draws
from mimray.study.cell import Cell, has_begun
from mimray.study.placing import Plan, plan_all, settled
from mimray.study.sweeps.choosing import Asked, Choice
from mimray.study.sweeps.folder import Curve, SweepFolder
from mimray.study.sweeps.objective import Objective, known_value, progress_metric
from mimray.study.sweeps.sweep import Sweep
from mimray.study.sweeps.trial import WORST, Trial
from mimray.study.sweeps.watching import Watch, tune_callback
from mimray.train.run_folder import RunFolder

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # rows are in the runs' folders
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nobody restores from Tune's own notes
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a recipe's paths are the user's
}


@contextmanager
def room_for(cells: Sequence[Cell]) -> Iterator[Plan]:
    """Connect to Ray for the time of the block, and see what trials may take there.

    Raises UserError where there is no room for one, and Stopped when asked to stop.
    """
    from mimray.train.cluster import ray_session
    from mimray.train.resources import cluster_nodes
    from mimray.train.shared import check_store
    from mimray.train.signals import leave_on_request

    os.environ.update(_QUIET)  # before Tune is imported
    try:
        # in this order, for Ray puts handlers of its own in place when it starts
        workers = max(cell.recipe.speed.most_workers for cell in cells)
        with ray_session(workers), leave_on_request():
            check_store(settled(cells[0]).recipe.run.tracking)
            yield plan_all([cell.recipe for cell in cells], cluster_nodes())
    except SystemExit:
        raise Stopped("stopped; the same command goes on") from None


def run_trials(
    sweep: Sweep,
    cells: Sequence[Cell],
    objective: Objective,
    folder: SweepFolder,
    draws: Draws,
    choice: Choice,
    watch: Watch,
    plan: Plan,
) -> None:
    """Run what is neither finished nor ended. Trials that fail leave the others."""
    score = progress_metric(cells)
    given = [Trial(settled(cell), objective, score, plan, draws) for cell in cells]
    trials = {trial.cell.name: trial for trial in given}
    curves = {name: _curve(trial, folder) for name, trial in trials.items()}
    over = {name: _worth(trial, folder, curves[name]) for name, trial in trials.items()
            if is_over(trial.cell, trial.objective, folder)}  # fmt: skip
    begun = [n for n, trial in trials.items() if n not in over and has_begun(trial.cell)]
    # what another rule ended has passed nothing, and is looked at again
    passed = [*over, *(name for name in begun if name not in folder.stopped)]
    scheduler = _scheduler(sweep, {name: curves[name] for name in passed}, watch)
    notes = RunFolder(folder.place)
    tuner = _tuner(trials, choice, choice.ask(over, begun), scheduler, watch, plan, notes)
    try:
        tuner.fit()
    finally:
        with suppress(OSError):
            notes.filesystem.delete_dir(notes.file("tune"))


def _tuner(
    trials: dict[str, Trial],
    choice: Choice,
    asked: Asked,
    scheduler: Any,
    watch: Watch,
    plan: Plan,
    notes: RunFolder,
) -> Any:
    """Tune, told what to run and where its own notes may lie meanwhile."""
    from ray import tune

    function = tune.with_parameters(_trial, trials=trials, name=choice.name, folder=str(Path.cwd()))
    # a byte, for Tune wants a trial to take something, and one with trainers of its own takes nothing else
    takes: dict[str, float] = {"cpu": plan.share.cpus, "gpu": plan.share.gpus, "memory": 1}
    return tune.Tuner(
        tune.with_resources(function, takes),
        param_space=asked.space,
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            search_alg=asked.search,
            num_samples=asked.samples,
            max_concurrent_trials=plan.at_once,
            # where a trial trains itself, the next one finds torch imported
            reuse_actors=plan.share.cpus > 0,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=notes.path,
            storage_filesystem=notes.filesystem,
            verbose=0,
            callbacks=[tune_callback(watch, choice.name)],
            failure_config=tune.FailureConfig(max_failures=1),  # of a process or host that is lost
        ),
    )


def is_over(cell: Cell, objective: Objective, folder: SweepFolder) -> bool:
    """Whether a trial needs no more."""
    return known_value(objective, cell) is not None or folder.was_stopped(cell)


def _scheduler(sweep: Sweep, passed: dict[str, Curve], watch: Watch) -> Any:
    """What ends trials, told of those that have begun; None where nothing does."""
    if sweep.stop is None:
        return None
    from mimray.study.sweeps.halving import Halving

    scheduler = Halving(sweep.stop, watch.ended)
    for name, curve in passed.items():
        scheduler.remember(name, curve)
    return scheduler


def _curve(trial: Trial, folder: SweepFolder) -> Curve:
    """[progress, score] of the validations of a trial, where its folder or `sweep.json` has them."""
    if folder.was_stopped(trial.cell):  # the last ones may not have reached its folder
        return list(folder.stopped[trial.cell.name]["curve"])
    return trial.curve()


def _worth(trial: Trial, folder: SweepFolder, curve: Curve) -> float:
    """Of a trial that is over: the objective, or what stands for one that was ended."""
    value = known_value(trial.objective, trial.cell)
    if value is None and curve and trial.objective.metric == trial.score:
        value = curve[-1][1]
    return WORST if value is None else value


def _trial(
    config: dict[str, Any],
    trials: dict[str, Trial],
    name: Callable[[dict[str, Any]], str],
    folder: str,
) -> None:
    """What Tune starts in a process of its own, which may have run other trials before."""
    import torch
    from ray import tune

    if Path(folder).is_dir():  # on this machine; elsewhere a recipe's paths must be absolute anyway
        os.chdir(folder)
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "20")  # a checkpoint is waited for
    trial = trials[name(config)]
    torch.set_num_threads(trial.plan.share.threads)
    try:
        trial.run(tune.report)
    except Stopped:
        raise SystemExit from None  # Tune has ended this trial, and hears nothing more
    except MimrayError as error:
        tune.report(trial.failure(str(error)))
    except Exception as error:  # the GPU's memory, or a fault of ours; Tune would keep it to itself
        traceback.print_exc()
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        tune.report(trial.failure(f"{type(error).__name__}: {line}"))
