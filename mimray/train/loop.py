"""The training loop: what every trainer does, from top to bottom."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mimray.errors import own_words
from mimray.mim.build import build_model
from mimray.mim.model import MaskedImageModel
from mimray.mim.step import micro_batch, train_step
from mimray.optim import build_optimizer, learning_rate, set_learning_rate
from mimray.recipe import Recipe
from mimray.train import checkpoint
from mimray.train.batches import Batches
from mimray.train.job import Job
from mimray.train.mailbox import Post
from mimray.train.recorder import Recorder
from mimray.train.streams import rank_stream
from mimray.train.validate import Validation

T = TypeVar("T")


@dataclass
class Trainer:
    """This process's place in the group."""

    rank: int
    ranks: int
    device: torch.device
    bf16: bool


def train(job: Job) -> dict[str, Any]:
    """Train from the newest checkpoint to the end of the run; the function Ray Train starts.

    Returns `{"status": "finished" | "stopped", "step": steps done}` on every rank.
    """
    recipe, run = job.recipe, job.run
    if Path(job.folder).is_dir():  # Ray Train has moved us; the recipe's paths are the user's
        os.chdir(job.folder)
    trainer = join_group(recipe)
    post = Post(job.mailbox)
    recorder: Recorder | None = None
    try:
        # ----- model, optimiser, and where to go on ------------------------------------------------
        torch.manual_seed(recipe.run.seed)
        model = build_model(recipe).to(trainer.device)
        optimizer = build_optimizer(model, recipe.optim)
        start = agree(trainer, checkpoint.newest(run) or 0 if trainer.rank == 0 else 0)
        kept = checkpoint.load(run, start, model, optimizer) if start else {}
        replicas = replicate(model, trainer)

        # ----- data: exactly what the plan says, from there on -------------------------------------
        plan = job.plan(start)
        pin = trainer.device.type == "cuda"
        stream = rank_stream(job, plan, trainer.rank, pin)
        batches = Batches(stream, plan, trainer.rank, trainer.device)
        validation = Validation(job, trainer.rank, trainer.ranks, trainer.device, trainer.bf16)
        clock, like_official = job.clock, recipe.optim.like_official
        validate_every = clock.steps(recipe.run.validate_every)
        checkpoint_every = clock.steps(recipe.run.checkpoint_every)
        about = {
            "hosts": gather(trainer, socket.gethostname()),
            "device": trainer.device.type,
            "precision": "bf16" if trainer.bf16 else "float32",
        }
        damaged = kept.get("damaged", [])
        recorder = Recorder(job, post, trainer.rank, trainer.device, start, about, damaged)

        # ----- steps -------------------------------------------------------------------------------
        for position, received in batches:
            step = position + 1
            lr = learning_rate(
                position, recipe.optim.lr, recipe.schedule, clock, like_official, len(received)
            )
            set_learning_rate(optimizer, lr)
            epoch = plan.epoch(position)
            micro = [
                micro_batch(recipe, model.patch, r.images, r.rows, r.weight, epoch)
                for r in received
            ]
            result = train_step(
                replicas, optimizer, micro, recipe.optim.clip, trainer.bf16, like_official
            )
            recorder.add(step, result, lr, batches.waited)
            recorder.damaged("train", batches.damaged)

            stop = bool(agree(trainer, int(post.stop_requested())))
            last = step == plan.stop
            if last or step % validate_every == 0:
                with recorder.pause():
                    average_statistics(model, trainer)
                    metrics = validation.run(model)
                    picture = validation.picture(model) if trainer.rank == 0 else None
                recorder.validated(metrics, picture)
                recorder.damaged("val", validation.damaged)
            recorder.write_row(force=last or stop)
            if last or stop or step % checkpoint_every == 0:
                with recorder.pause():
                    average_statistics(model, trainer)
                    recorder.save(model, optimizer, gather(trainer, recorder.found))
            recorder.report_saved()
            if stop and not last:
                recorder.close()
                return {"status": "stopped", "step": step}
        recorder.close()
        return {"status": "finished", "step": plan.stop}
    except torch.OutOfMemoryError:
        memory = torch.cuda.max_memory_allocated() / 2**30
        post.send(
            "failed",
            error=f"out of GPU memory at {memory:.1f} GiB: lower speed.micro_batch (it does not "
            f"change the result; now {job.micro_batch})",
        )
        raise
    except Exception as error:  # of ours, it would come again if the trainers started again
        if words := own_words(error):
            post.send("failed", error=words)
        raise
    finally:
        if recorder is not None:
            recorder.saver.finish()  # a checkpoint that is being written is worth waiting for
        post.flush()


def join_group(recipe: Recipe) -> Trainer:
    """Find this trainer's rank and device, and share the host's cores with its neighbours."""
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // context.get_local_world_size()))
    return Trainer(
        context.get_world_rank(), context.get_world_size(), device, use_bf16(recipe, device)
    )


def use_bf16(recipe: Recipe, device: torch.device) -> bool:
    """`optim.precision`, resolved on a device: `auto` is bf16 on GPUs that compute it natively."""
    if recipe.optim.precision != "auto":
        return recipe.optim.precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def agree(trainer: Trainer, value: int) -> int:
    """The largest value that any rank brings, at all ranks."""
    if trainer.ranks == 1:
        return value
    tensor = torch.tensor([value], device=trainer.device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor.item())


def gather(trainer: Trainer, value: T) -> list[T]:
    """Each rank's value, at all ranks."""
    values = [value] * trainer.ranks
    if trainer.ranks > 1:
        dist.all_gather_object(values, value)
    return values


def average_statistics(model: nn.Module, trainer: Trainer) -> None:
    """Running statistics of batch norms, their mean over the ranks; training does not read them."""
    if trainer.ranks == 1:
        return
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            dist.all_reduce(buffer)
            buffer /= trainer.ranks


def replicate(model: MaskedImageModel, trainer: Trainer) -> nn.Module:
    """Data parallel where there are several ranks; the plain model where there is one."""
    if trainer.ranks == 1:
        return model
    if trainer.device.type == "cuda":  # torch has none for CPUs
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place: the parameters stay
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
