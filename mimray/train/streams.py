"""The streams of a run. Imported by Ray's controller too, so there is no torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import ray
import ray.train
from ray.data import Dataset

from mimray.data.ahead import ahead
from mimray.data.framing import Framing
from mimray.data.plan import Block, Plan
from mimray.data.sources import Source
from mimray.data.stream import dataset, micro_batches
from mimray.train import checkpoint
from mimray.train.job import Job

if TYPE_CHECKING:
    from torch import Tensor

_AHEAD = 2  # validation blocks that are decoded while one is being looked at


def train_stream(job: Job) -> Dataset:
    """The training stream from the newest checkpoint on; Ray calls it at every start of trainers."""
    plan = job.plan(checkpoint.newest(job.run) or 0)
    return dataset(plan, job.train_source, job.task.framing(training=True))


def rank_stream(job: Job, plan: Plan, rank: int, pin: bool) -> Iterator[dict[str, Tensor]]:
    """One rank's micro-batches of a plan, in a trainer, by the loader that `speed.loader` names.

    Columns on the host (pinned if asked): `image` uint8 (B, S, S, 3), `row`, `reason`, `seen` (B,).
    """
    speed = job.recipe.speed
    if speed.loader == "ray":
        return micro_batches(ray.train.get_dataset_shard("train"), plan, speed.prefetch, pin)
    from mimray.data.torch_loader import micro_batches as of_torch

    source, framing, processes = job.train_source, job.task.framing(True), speed.loader_processes
    batches = of_torch(plan, rank, source, framing, processes, speed.prefetch, pin)
    return batches if processes else ahead(batches, speed.prefetch)


def val_stream(job: Job, rank: int) -> Iterator[dict[str, np.ndarray]]:
    """One rank's validation pictures, micro-batch by micro-batch, decoded by plain Ray tasks; in a loop
    that runs in the driver's process, by a thread.

    They are few and mostly read once, which is not worth a second Ray Data execution.
    """
    plan, framing = job.val_plan, job.task.framing(training=False)
    blocks = (plan.block_of_all(number)[rank] for number in range(plan.blocks))
    if job.post is not None:
        from mimray.data.load import load_block

        loaded = (load_block(job.val_source, block, framing) for block in blocks)
        for columns in ahead(loaded, _AHEAD):
            yield from _cut(columns, plan.micro)
        return
    source = ray.put(job.val_source)
    waiting: list[ray.ObjectRef] = []
    for block in blocks:
        waiting.append(_load.remote(source, block, framing))
        if len(waiting) > _AHEAD:
            yield from _cut(ray.get(waiting.pop(0)), plan.micro)
    for reference in waiting:
        yield from _cut(ray.get(reference), plan.micro)


# "DEFAULT": the placement group that a trial of a sweep runs in has no room for it
@ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")
def _load(source: Source, block: Block, framing: Framing) -> dict[str, np.ndarray]:
    import torch

    from mimray.data.load import load_block

    torch.set_num_threads(1)
    return load_block(source, block, framing)


def _cut(block: dict[str, np.ndarray], micro: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(block["row"]), micro):
        yield {name: column[start : start + micro] for name, column in block.items()}
