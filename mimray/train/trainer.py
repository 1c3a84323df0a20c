"""The Ray Train side: trainers, datasets and where Ray keeps its own notes."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from functools import partial
from typing import Any

import ray
from ray.data import ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from mimray.errors import MimrayError, RunFailed, UserError, own_words
from mimray.train import checkpoint
from mimray.train.fence import Fence
from mimray.train.job import Job
from mimray.train.memory import out_of_memory
from mimray.train.resources import Layout, cluster_nodes, lay_out
from mimray.train.streams import train_stream

log = logging.getLogger("mimray")
_SETTLE_SECONDS = 10.0  # for ended trainers to give back what they had
_ROOM_SECONDS = 120.0  # for a cluster to have room again for the least number of trainers


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
                max_preemption_failures=0,
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
    said that the run failed; so are those that stopped because a host leaves, or because `resize` was
    set before they were asked to stop. With [least, most] trainers each start takes as many as there is
    room for, and a number of its own from the fence, so that trainers which were given up and still
    live do no harm. `last`: set it, and there is no other start. `ended`: groups that have.
    """

    def __init__(self, job: Job, layout: Layout, fence: Fence) -> None:
        super().__init__(name="fit", daemon=True)
        self.job, self.layout, self.fence = job, layout, fence
        self.status = "stopped"
        self.error: Exception | None = None
        self.ended = 0
        self.last, self.resize = threading.Event(), threading.Event()

    def run(self) -> None:
        """Start the trainers and wait for them, until they have finished or it is no use."""
        try:
            self._run()
        except Exception as error:  # storage, room, another's run now, or Ray itself is gone
            self.error = error

    def _run(self) -> None:
        restarts = left = self.job.recipe.run.restarts
        while True:
            step = checkpoint.verified(self.job.run)
            self.job.workers = self.layout.workers
            try:
                result: Any = build_trainer(self.job, self.layout).fit()
                self.status, self.error = result.return_value["status"], None
            except Exception as error:  # shown by outcome(), in the driver's thread
                self.error = error
                log.debug("the trainers ended", exc_info=True)
                traceback.clear_frames(error.__traceback__)  # they hold the group's controller
                if checkpoint.newest(self.job.run) != step:
                    left = restarts
                if not left or self._is_over(error):
                    return
                left -= 1
            finally:
                self.ended += 1
            if not (self._goes_on() and self._lay_out_again()):
                return
            self.fence.renew()
            ray.get(self.job.mailbox.admit.remote(self.job.run.token))

    def _is_over(self, error: Exception) -> bool:
        """Whether another start would be in vain after an error, or nobody wants one any more."""
        if isinstance(first_cause(error), ray.exceptions.OutOfMemoryError):
            return True
        try:
            failed: bool = ray.get(self.job.mailbox.has_failed.remote())
        except ray.exceptions.RayError:  # Ray itself is gone
            return True
        if self.last.is_set() and not failed:  # they were to stop, and they have
            self.status, self.error = "stopped", None
        return failed or self.last.is_set()

    def _goes_on(self) -> bool:
        """Whether trainers that have ended are to be started again; a request to stop, so that they are
        another number, is forgotten."""
        ended_well = self.error is None and self.status != "preempted"
        if ended_well and not (self.status == "stopped" and self.resize.is_set()):
            return False
        if self._to_stop():
            return False
        self.resize.clear()
        ray.get(self.job.mailbox.request_stop.remote(False))
        return not self._to_stop()  # asked in this very moment: let it be

    def _lay_out_again(self) -> bool:
        """Take what the cluster has room for now; ended trainers take a while to give back what they had.

        Returns whether to start, which somebody may have asked not to. Raises RunFailed where there is no
        room for the least number of trainers in two minutes.
        """
        speed, before = self.job.recipe.speed, self.layout
        # GPUs that have not been given back yet are no reason to go on without
        same: dict[str, Any] = {"device": "gpu" if before.use_gpu else "cpu"}
        if speed.least_workers == speed.most_workers:  # as many, and each with as much, as before
            same["cpus_per_worker"] = before.cpus_per_worker
        speed = speed.model_copy(update=same)
        began = time.monotonic()
        while not self._to_stop():
            waited = time.monotonic() - began
            try:
                layout = lay_out(speed, cluster_nodes())
                if layout.workers == speed.most_workers or waited > _SETTLE_SECONDS:
                    self.layout = layout
                    return True
            except UserError as error:
                if waited > _ROOM_SECONDS:
                    raise RunFailed(f"{error}; the same command goes on") from None
            time.sleep(0.5)
        return False

    def _to_stop(self) -> bool:
        """Whether somebody has asked; then there is no error."""
        if self.last.is_set():
            self.status, self.error = "stopped", None
        return self.last.is_set()

    def outcome(self) -> str:
        """`finished` or `stopped`; raises RunFailed with the trainers' own words in one line."""
        if self.error is None:
            return "finished" if self.status == "finished" else "stopped"
        if isinstance(self.error, MimrayError):
            raise self.error
        cause = first_cause(self.error)
        log.debug("training failed", exc_info=self.error)
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        words = out_of_memory(cause, self.job.recipe, self.job.micro_batch) or own_words(cause)
        raise RunFailed(words or f"the trainers failed: {lines[-1]}")


def first_cause(error: Exception) -> Exception:
    """The first trainer's own error, where Ray Train's holds one."""
    causes: dict[int, Exception] = getattr(error, "worker_failures", {})
    return next(iter(causes.values()), error)
