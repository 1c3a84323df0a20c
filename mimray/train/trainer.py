"""The Ray Train side: trainers, datasets and where Ray keeps its own notes."""

from __future__ import annotations

import time
from functools import partial

from ray.data import ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from mimray.train.job import Job
from mimray.train.resources import Layout
from mimray.train.streams import train_stream


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
                max_failures=job.recipe.run.restarts,
                controller_failure_limit=3,  # type: ignore[call-arg]  # V2's
            ),
        ),
        datasets={"train": partial(train_stream, job)},
        dataset_config=DataConfig(
            execution_options=ExecutionOptions(preserve_order=True), enable_shard_locality=False
        ),
    )
