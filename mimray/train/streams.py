"""The streams of a run. Imported by Ray's controller too, so there is no torch here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import ray
from ray.data import Dataset

from mimray.data.stream import dataset
from mimray.train import checkpoint
from mimray.train.job import Job

_AHEAD = 2  # validation blocks that are decoded while one is being looked at


def train_stream(job: Job) -> Dataset:
    """The training stream from the newest checkpoint on; Ray calls it at every start of trainers."""
    plan = job.plan(checkpoint.newest(job.run) or 0)
    return dataset(plan, job.train_source, job.train_framing)


def val_stream(job: Job, rank: int) -> Iterator[dict[str, np.ndarray]]:
    """One rank's validation pictures, micro-batch by micro-batch, decoded by plain Ray tasks.

    They are few and mostly read once, which is not worth a second Ray Data execution.
    """
    plan, framing = job.val_plan, job.val_framing
    source = ray.put(job.val_source)
    blocks = (plan.block(number, rank)[0] for number in range(plan.blocks))
    waiting: list[ray.ObjectRef] = []
    for rows in blocks:
        waiting.append(_load.remote(source, rows, framing))
        if len(waiting) > _AHEAD:
            yield from _micro_batches(ray.get(waiting.pop(0)), plan.micro)
    for reference in waiting:
        yield from _micro_batches(ray.get(reference), plan.micro)


@ray.remote(num_cpus=1)
def _load(source, rows, framing):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    from mimray.data.load import load_rows

    return load_rows(source, rows, np.zeros_like(rows), framing)


def _micro_batches(block: dict[str, np.ndarray], micro: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(block["row"]), micro):
        yield {name: column[start : start + micro] for name, column in block.items()}
