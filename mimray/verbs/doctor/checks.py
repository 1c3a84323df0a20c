"""What can be found out about a recipe without starting anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from mimray.errors import UserError
from mimray.recipe import Recipe
from mimray.train.doctor.finding import GIB, Finding

if TYPE_CHECKING:
    from mimray.train.job import Job


def check_recipe(recipe: Recipe) -> Iterator[Finding]:
    """Versions here, the model, the data and the run's folder, one finding each."""
    yield _finding("versions", _versions, recipe)
    yield _finding("model", _model, recipe)
    yield _finding("data", _data, recipe)
    yield _finding("storage", _storage, recipe)


def check_machine(recipe: Recipe) -> Finding:
    """Would the trainers fit a private Ray?"""
    return _finding("machine", _machine, recipe)


@cache
def opened(recipe: Recipe) -> Job:
    """The recipe with its data, opened once. Raises UserError."""
    from mimray.train.prepare import open_data

    return open_data(recipe)


def _finding(name: str, check: Callable[[Recipe], str], recipe: Recipe) -> Finding:
    try:
        return Finding(name, check(recipe))
    except UserError as error:
        return Finding(name, str(error), "mend")


def _versions(recipe: Recipe) -> str:
    return ", ".join(f"{p} {version(p)}" for p in ("mimray", "torch", "ray", "timm", "mlflow"))


def _model(recipe: Recipe) -> str:
    import torch

    from mimray.mim.build import build_model
    from mimray.optim import parameter_count
    from mimray.train.tasks.check_pretraining import check_model

    check_model(recipe)
    with torch.device("meta"):
        count = parameter_count(build_model(recipe).parameters())
    size = f"{count * 16 / GIB:.2f} GiB with gradients and AdamW"
    return f"{recipe.model.encoder}, {count / 1e6:.1f} M parameters, {size}"


def _data(recipe: Recipe) -> str:
    job = opened(recipe)
    assert job.clock.total is not None
    return (
        f"{recipe.data.train} ({job.train_source.kind}): {len(job.order)} photos to train on, "
        f"{len(job.val_rows)} held out; {job.clock.total} steps of {recipe.optim.batch}, "
        f"{job.clock.total / job.clock.steps_per_epoch:.1f} epochs"
    )


def _storage(recipe: Recipe) -> str:
    from mimray.train.doctor.host import room
    from mimray.train.run_folder import RunFolder

    run = RunFolder.of(recipe)
    run.check_free()
    free = f", {room(run.path).free / GIB:.0f} GiB free" if run.local else ""
    return f"{run.uri} can be written{free}"


def _machine(recipe: Recipe) -> str:
    import torch

    from mimray.train.cluster import private_cpus
    from mimray.train.resources import Node, lay_out

    cpus = private_cpus(recipe.speed.most_workers)
    layout = lay_out(recipe.speed, [Node("here", cpus, torch.cuda.device_count())])
    kind = "GPU" if layout.use_gpu else f"{layout.cpus_per_worker:g} CPU"
    return (
        f"{cpus:g} logical CPUs on {os.cpu_count()} cores: {layout.workers} trainer(s) of {kind} each, "
        f"the rest reads the data"
    )
