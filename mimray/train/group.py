"""A trainer's place among the trainers, and what they agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.train.v2._internal.execution.context import get_train_context

from mimray.recipe import TrainingRecipe

T = TypeVar("T")


@dataclass
class Trainer:
    """This process's place in the group. `hosts`: a process group on the hosts' own network, for what
    must not wait for a GPU; None where there is one trainer. `in_group`: whether Ray Train started it."""

    rank: int
    ranks: int
    device: torch.device
    bf16: bool
    hosts: Any = None
    in_group: bool = False


def join_group(recipe: TrainingRecipe) -> Trainer:
    """Find this trainer's rank and device, and share the host's cores with its neighbours. Alone, where
    Ray Train did not start it: in the driver's own process."""
    if not _ray_train_started_it():
        gpu = recipe.speed.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda" if gpu else "cpu")
        return Trainer(0, 1, device, use_bf16(recipe, device))
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // context.get_local_world_size()))
    ranks = context.get_world_size()
    hosts = dist.new_group(backend="gloo") if ranks > 1 else None
    bf16 = use_bf16(recipe, device)
    return Trainer(context.get_world_rank(), ranks, device, bf16, hosts, in_group=True)


def _ray_train_started_it() -> bool:
    try:
        get_train_context()
    except RuntimeError:
        return False
    return True


def preempted(trainer: Trainer) -> bool:
    """Whether Ray has told this trainer that a host of its group will be taken away.

    Ray's public function asks all trainers and waits for them, at every step; the votes do that beside it.
    """
    if not trainer.in_group:
        return False
    return get_train_context().preemption_context.preemption_info is not None


def use_bf16(recipe: TrainingRecipe, device: torch.device) -> bool:
    """`optim.precision`, resolved on a device: `auto` is bf16 on GPUs that compute it natively."""
    if recipe.optim.precision != "auto":
        return recipe.optim.precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def agree(trainer: Trainer, value: int) -> int:
    """The largest value that any rank brings, at all ranks."""
    return max(gather(trainer, value))


def gather(trainer: Trainer, value: T) -> list[T]:
    """Each rank's value, at all ranks."""
    values = [value] * trainer.ranks
    if trainer.ranks > 1:
        dist.all_gather_object(values, value, group=trainer.hosts)
    return values


class Votes:
    """Requests that only some ranks have heard of, and that all must follow at the same step.

    Ballots travel beside the step and are counted at the next one, so no step waits for them.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.ballot = torch.zeros(1, dtype=torch.int64)
        self.pending: Any = None

    def cast(self, vote: int) -> int:
        """This rank's vote of this step; returns the largest of any rank's of the step before (of this
        one where there is one rank)."""
        if self.trainer.ranks == 1:
            return vote
        counted = 0
        if self.pending is not None:
            self.pending.wait()
            counted = int(self.ballot)
        self.ballot = torch.tensor([vote])
        group = self.trainer.hosts
        self.pending = dist.all_reduce(self.ballot, dist.ReduceOp.MAX, group=group, async_op=True)
        return counted

    def close(self) -> None:
        """Wait for the ballot under way: every rank casts as many."""
        if self.pending is not None:
            self.pending.wait()
            self.pending = None
