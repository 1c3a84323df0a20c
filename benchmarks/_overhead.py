"""The two loops that `benchmarks.overhead` compares, each in a process of its own.

`python -m benchmarks._overhead pretrain ...` is `mimray pretrain ...`, whose trainers are fed noise and
note every step and what its parts took. `python -m benchmarks._overhead bare RECIPE ...` takes the same
steps of the same recipe, fed the same, with nothing around them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any

from mimray import environment

if __name__ == "__main__":
    environment.prepare()  # before Ray is imported

import torch

from benchmarks._runs import note
from mimray.data.plan import Plan
from mimray.train.loop import train as loop_train  # before it is replaced

if TYPE_CHECKING:
    from mimray.train.job import Job

_NOISE = 16  # micro-batches of it, which go round


class Stopwatch:
    """Seconds that functions have taken so far."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def put_around(self, owner: Any, *names: str, part: str) -> None:
        """Replace functions of a module or class by timed ones; one that calls another of the same part
        would count twice."""
        for name in names:
            setattr(owner, name, self.timed(getattr(owner, name), part))

    def timed(self, function: Callable, part: str) -> Callable:
        """The function, timed."""
        self.seconds[part] = 0.0

        @wraps(function)
        def call(*words: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*words, **more)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return call


def noise(plan: Plan, rank: int, size: int, pin: bool) -> Iterator[dict[str, torch.Tensor]]:
    """Micro-batches as `rank_stream` gives them, with the plan's rows, made without work."""
    random = torch.Generator().manual_seed(0)
    shape = (_NOISE, plan.micro, size, size, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    images = images.pin_memory() if pin else images
    reason = torch.zeros(plan.micro, dtype=torch.int8)
    for position in range(plan.start, plan.stop):
        for rows in plan.micro_batches(position, rank):
            row = torch.from_numpy(rows)
            yield {"image": images[position % _NOISE], "row": row, "reason": reason, "seen": row}


# ----- in a trainer --------------------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    """The training loop on noise, its parts timed."""
    from mimray.mim.guard import Guard
    from mimray.train import loop
    from mimray.train.tasks.pretraining import Pretraining

    watch, size = Stopwatch(), job.recipe.model.image_size
    loop.rank_stream = lambda job, plan, rank, pin: noise(plan, rank, size, pin)
    watch.put_around(loop, "train_step", part="step")
    watch.put_around(Pretraining, "micro_batch", part="masks")
    watch.put_around(loop, "preempted", part="preemption")
    watch.put_around(loop.Batches, "_receive", part="receiving")
    watch.put_around(Plan, "micro_batches", part="plan")
    watch.put_around(Guard, "judge", part="guard (in step)")
    watch.put_around(loop.Rollback, "due", part="roll-back due")
    watch.put_around(loop.Votes, "cast", part="votes")
    watch.put_around(loop.RemotePost, "stop_requested", part="post")
    watch.put_around(loop.Recorder, "add", "damaged", "write_row", part="rows")
    watch.put_around(loop.Recorder, "save", "report_saved", part="checkpoints")
    ended = loop.Heart.step_ended

    def step_ended(self: Any) -> None:
        ended(self)
        note("step", **watch.seconds)

    loop.Heart.step_ended = step_ended
    note("threads", count=torch.get_num_threads(), omp=os.environ.get("OMP_NUM_THREADS"))
    return loop_train(job)


# ----- without anything around it ------------------------------------------------------------------


def bare(recipe_name: str, settings: list[str]) -> None:
    """The steps alone, until somebody ends the process."""
    from mimray.mim.build import build_model
    from mimray.mim.step import micro_batch, train_step
    from mimray.optim import build_optimizer, learning_rate, set_learning_rate
    from mimray.recipe import load_recipe
    from mimray.train.batches import to_device
    from mimray.train.group import use_bf16
    from mimray.train.prepare import open_data

    recipe = load_recipe(recipe_name, settings)
    job = open_data(recipe)
    gpu = torch.cuda.is_available() and recipe.speed.device != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(recipe.run.seed)
    model = build_model(recipe).to(device)
    optimizer = build_optimizer(model, recipe.optim)
    bf16, optim, plan = use_bf16(recipe, device), recipe.optim, job.plan(0)
    watch = Stopwatch()
    receive = watch.timed(lambda stream: to_device(next(stream), device), "receiving")
    masks, step = watch.timed(micro_batch, "masks"), watch.timed(train_step, "step")
    stream = noise(plan, 0, recipe.model.image_size, gpu)
    for position in range(plan.stop):
        got = [receive(stream) for _ in range(plan.rounds)]
        lr = learning_rate(
            position, optim.lr, recipe.schedule, job.clock, optim.like_official, len(got)
        )
        set_learning_rate(optimizer, lr)
        epoch = plan.epoch(position)
        micro = [masks(recipe, model.patch, r.images, r.rows, r.weight, epoch) for r in got]
        step(model, optimizer, micro, optim.clip, bf16, optim.like_official)
        note("step", **watch.seconds)


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare(sys.argv[2], sys.argv[3:])
    else:
        from benchmarks import _overhead  # by name, so that trainers find what they are sent
        from mimray import cli
        from mimray.train import loop

        loop.train = _overhead.train
        sys.exit(cli.main(sys.argv[1:]))
