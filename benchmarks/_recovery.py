"""`mimray` that notes how far a start has come, for `benchmarks.recovery`.

`python -m benchmarks._recovery WORDS...` is `mimray WORDS...`. Ray's controller imports this too, and does
without torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimray import environment

if __name__ == "__main__":
    environment.prepare()  # before Ray is imported

from benchmarks._runs import NOTES, note

if TYPE_CHECKING:
    from ray.data import Dataset

    from mimray.train.job import Job

HANG = "hang"
"""A file beside the notes: while it is there, the next step of rank 1 does not end."""


def noted(function: Callable, before: str | None = None, after: str | None = None) -> Callable:
    """The function, with a note when it is called and when it returns."""

    @wraps(function)
    def call(*words: Any, **more: Any) -> Any:
        if before:
            note(before)
        result = function(*words, **more)
        if after:
            note(after)
        return result

    return call


def train_stream(job: Job) -> Dataset:
    """What Ray's controller calls at every start of trainers."""
    from mimray.train import streams

    note("controller is up")
    return streams.train_stream(job)


def train(job: Job) -> dict[str, Any]:
    """The training loop, which notes its beginnings."""
    note("group is up", process=process_began())
    from mimray.train import loop
    from mimray.train.tasks.pretraining import Pretraining

    note("imported")
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    batches, train_step = loop.Batches, loop.train_step

    class Noted(batches):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[Any]:
            for number, received in enumerate(super().__iter__()):
                if not number:
                    note("first pictures")
                yield received

    def stepping(*words: Any) -> Any:
        hang = Path(os.environ[NOTES]).parent / HANG
        if rank == 1 and hang.exists():
            hang.unlink()
            note("hangs")
            time.sleep(3600)
        result = train_step(*words)
        note("step", rank=rank)
        return result

    loop.Batches, loop.train_step = Noted, stepping
    Pretraining.build = noted(Pretraining.build, before="joined")
    loop.rank_stream = noted(loop.rank_stream, before="model is there")
    return loop.train(job)


def process_began() -> float:
    """When this process was started, by the clock of the notes, to a hundredth of a second."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return time.monotonic() - since_boot + int(ticks) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    from benchmarks import _recovery  # by name, so that Ray's processes find what they are sent
    from mimray import cli

    note("python is up")
    from mimray.train import checkpoint, driver, launch, loop, trainer

    note("imports")
    launch.prepare = noted(launch.prepare, after="prepared")
    driver.cluster_nodes = noted(driver.cluster_nodes, before="Ray is up")
    checkpoint.verified = noted(checkpoint.verified, before="noticed", after="verified")
    loop.train, trainer.train_stream = _recovery.train, _recovery.train_stream
    sys.exit(cli.main(sys.argv[1:]))
