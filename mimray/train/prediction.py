"""What a run will take, from its recipe alone: operations, memory, speed, days. Starts nothing."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mimray.durations import Clock
from mimray.errors import UserError
from mimray.mim.costs import Flops, count_flops, matrix_rate, model_on_paper
from mimray.mim.memory_estimate import Memory, estimate_memory
from mimray.mim.parallel import choose
from mimray.optim import parameter_count
from mimray.recipe import Recipe
from mimray.train.group import use_bf16
from mimray.train.host_memory import free_memory
from mimray.train.job import Job
from mimray.train.run_folder import RunFolder

MFU = 0.4
"""Share of the matrix rate that predictions assume. In timm's table of training rates (RTX 3090, eager)
Swin models of base size and more come to 0.26 to 0.45 of the GPU's, ViT-B to 0.58."""

CHECKPOINTS = 3
"""That lie on a disk at once: the newest, the best, and the one that is being written."""

_GIB = 2**30
_DAY = 86_400.0
_TRAINER_BYTES = 0.5 * _GIB  # torch and ray, once imported
_STREAM_BYTES = (
    2.3 * _GIB
)  # Ray, its object store and data tasks (docs/performance.md, the data stream)
_PATIENCE = 1800.0  # seconds that a measurement may be expected to take


@dataclass(frozen=True)
class Extent:
    """Pictures of an epoch and of the whole run; None where that hangs on data that is not there."""

    epoch: int | None
    run: int | None

    def times(self, images_per_s: float) -> dict[str, float | None]:
        """What a speed makes of them."""
        return {
            "images_per_s": images_per_s,
            "epochs_per_day": self.epoch and images_per_s * _DAY / self.epoch,
            "hours": self.run and self.run / images_per_s / 3600,
        }


def extent(recipe: Recipe, job: Job | None) -> Extent:
    """How much a recipe trains on; `job`: its data, where they could be opened."""
    batch, length = recipe.optim.batch, recipe.schedule.length
    if job is not None:
        assert job.clock.total is not None
        return Extent(job.clock.steps_per_epoch * batch, job.clock.total * batch)
    return Extent(None, None if length.endswith("ep") else Clock(0, batch).steps(length) * batch)


@dataclass(frozen=True)
class Prediction:
    """`rate`: operations a second of all `trainers` in matrix products, measured on the device of this
    host (`device`); `memory`: of one trainer, at `micro_batch` pictures."""

    parameters: int
    flops: Flops
    memory: Memory
    micro_batch: int
    trainers: int
    device: str
    kind: str
    precision: str
    rate: float
    extent: Extent

    @property
    def images_per_s(self) -> float:
        """At MFU."""
        return MFU * self.rate / self.flops.training

    def to_json(self) -> dict[str, Any]:
        """For `--json`: plain numbers, with their units in their names."""
        gib = {name: size / _GIB for name, size in asdict(self.memory).items()}
        return {
            "parameters": self.parameters,
            "gflop_forward": self.flops.forward / 1e9,
            "gflop_training": self.flops.training / 1e9,
            "memory_gib": gib | {"total": self.memory.total / _GIB},
            "micro_batch": self.micro_batch,
            "trainers": self.trainers,
            "device": self.device,
            "precision": self.precision,
            "tflop_per_s": self.rate / 1e12,
            "mfu": MFU,
            **self.extent.times(self.images_per_s),
        }


def predict(recipe: Recipe, job: Job | None) -> Prediction:
    """Predict on the device of this host; `job`: the recipe's data, where they could be opened.

    On CPUs the trainers share the host's cores; on GPUs each has one like that of this host. Raises
    UserError for a model that cannot be built.
    """
    trainers = recipe.speed.most_workers
    use_gpu = recipe.speed.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    bf16 = use_bf16(recipe, device)
    try:
        parameters = parameter_count(model_on_paper(recipe).parameters())
        shared = choose(recipe.speed.parallel, parameters, device, trainers) == "fsdp"
        return Prediction(
            parameters=parameters,
            flops=count_flops(recipe),
            memory=estimate_memory(recipe, device, bf16, parts=trainers if shared else 1),
            micro_batch=recipe.micro_batch(recipe.speed.most_workers),
            trainers=trainers,
            device=torch.cuda.get_device_name(device)
            if use_gpu
            else f"{torch.get_num_threads()} CPU cores",
            kind=device.type,
            precision="bf16" if bf16 else "float32",
            rate=matrix_rate(device, bf16) * (trainers if use_gpu else 1),
            extent=extent(recipe, job),
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def refuse_what_does_not_fit(recipe: Recipe, predicted: Prediction, steps: int) -> None:
    """Raises UserError, with the numbers, where `steps` steps would take more memory or room for
    checkpoints than is free on this host, or more than half an hour."""
    need, free = predicted.memory.total, _free_gpu() if predicted.kind == "cuda" else free_memory()
    if predicted.kind == "cpu":
        need = int(predicted.trainers * (need + _TRAINER_BYTES) + _STREAM_BYTES)
    if need > free:
        raise UserError(
            f"needs {need / _GIB:.1f} GiB of memory, predicted, and {free / _GIB:.1f} GiB are free; "
            f"lower speed.micro_batch={predicted.micro_batch} or set speed.checkpoint_stages=[1]"
        )
    run = RunFolder.of(recipe)
    memory = predicted.memory
    room = CHECKPOINTS * (memory.weights + memory.moments)
    there = next(p for p in Path(run.path).parents if p.exists()) if run.local else None
    if there is not None and room > (left := shutil.disk_usage(there).free):
        raise UserError(
            f"needs {room / _GIB:.1f} GiB for checkpoints and {there} has {left / _GIB:.1f} GiB free; "
            f"set run.storage"
        )
    seconds = steps * recipe.optim.batch / predicted.images_per_s
    if seconds > _PATIENCE:
        raise UserError(
            f"{steps} steps of {recipe.optim.batch} pictures would take {seconds / 3600:.1f} h here at "
            f"{MFU:.0%} MFU; lower optim.batch={recipe.optim.batch} to measure"
        )


def _free_gpu() -> int:
    torch.cuda.empty_cache()  # what measuring the matrix rate has left, in this very process
    free: int = torch.cuda.mem_get_info()[0]
    return free
