"""The Ray Train side: trainers, datasets and where Ray keeps its own notes."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

import ray
from ray.data import ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from mimray.errors import RunFailed, own_words
from mimray.train import checkpoint
from mimray.train.job import Job
from mimray.train.resources import Layout
from mimray.train.streams import train_stream

log = logging.getLogger("mimray")


def build_trainer(job: Job, layout: Layout) -> TorchTrainer:
    """A TorchTrainer for a job. Checkpoints are ours: Ray's storage holds only its own notes."""
    from mimray.train.loop import train

    speed = job.recipe.speed
    return TorchTrainer(
        train,  # type: ignore[arg-type]
        train_loop_config=job,  # type: ignore[arg-type]
        scaling_config=ScalingConfig(
            num_workers=layout.workers,
            use_gpu=layout.use_gpu,
            resources_per_worker=layout.per_worker(),
            placement_strategy=speed.placement.upper(),
        ),
        run_config=RunConfig(
            name=f"start-{int(time.time() * 1000)}",  # a name used twice would go on with the old
            storage_path=job.run.file("ray"),
            storage_filesystem=job.run.filesystem,
            failure_config=FailureConfig(
                max_failures=0,  # Fit starts again, and knows when that is no use
                controller_failure_limit=0,  # type: ignore[call-arg]  # V2's
            ),
        ),
        datasets={"train": partial(train_stream, job)} if speed.loader == "ray" else {},
        dataset_config=DataConfig(
            execution_options=ExecutionOptions(preserve_order=True), enable_shard_locality=False
        ),
    )


class Fit(threading.Thread):
    """`TorchTrainer.fit` in a thread of its own, where it leaves the signals to us.

    Trainers that died are started again, `run.restarts` times without a new checkpoint, unless they
    said that the run failed. `last`: set it, and there is no other start.
    """

    def __init__(self, job: Job, layout: Layout) -> None:
        super().__init__(name="fit", daemon=True)
        self.job, self.layout = job, layout
        self.result: Any = None
        self.error: Exception | None = None
        self.last = threading.Event()

    def run(self) -> None:
        """Start the trainers and wait for them."""
        left = self.job.recipe.run.restarts
        while True:
            step = checkpoint.verified(self.job.run)
            try:
                self.result, self.error = build_trainer(self.job, self.layout).fit(), None
                return
            except Exception as error:  # shown by outcome(), in the driver's thread
                self.error = error
                log.debug("the trainers ended", exc_info=True)
            if checkpoint.newest(self.job.run) != step:
                left = self.job.recipe.run.restarts
            if not left or self._is_over():
                return
            left -= 1

    def _is_over(self) -> bool:
        """Whether another start would be in vain."""
        try:
            return self.last.is_set() or ray.get(self.job.mailbox.has_failed.remote())
        except ray.exceptions.RayError:  # Ray itself is gone
            return True

    def outcome(self) -> str:
        """`finished` or `stopped`; raises RunFailed with the trainers' own words in one line."""
        if self.error is None:
            status: str = self.result.return_value["status"]
            return status
        causes = getattr(self.error, "worker_failures", {}).values()
        cause = next(iter(causes), self.error)
        log.debug("training failed", exc_info=self.error)
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise RunFailed(own_words(cause) or f"the trainers failed: {lines[-1]}")
