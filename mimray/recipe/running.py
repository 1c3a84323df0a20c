"""The sections on how a run goes: optimiser, schedule, where it lies, and how fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mimray.durations import Duration, Length
from mimray.recipe.sections import NAME, Section, Seed, Share, Uri


class Optim(Section):
    batch: int = Field(2048, ge=1)
    """Global batch: pictures an optimiser step, whatever the number of workers."""
    lr: float = Field(8e-4, gt=0.0)
    """Peak learning rate at this batch (the papers state it for 512: multiply by batch / 512)."""
    weight_decay: float = Field(0.05, ge=0.0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0.0)
    clip: float = Field(5.0, gt=0.0)
    """Global gradient norm above which gradients are scaled down."""
    spike: float = Field(100.0, gt=1.0)
    """An update whose gradient norm is this many times the running mean is left out and its pictures
    are passed; so is one that is not finite."""
    skips: int = Field(10, ge=1)
    """Updates left out in a row after which the weights go back to the last checkpoint's, while the
    pictures go on."""
    rollbacks: int = Field(2, ge=0)
    """How often they may, before the run fails."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """`auto`: bf16 where the device computes it natively; what was used stands in run.json."""
    like_official: bool = False
    """SimMIM's published loop, faults included: position tables are decayed, gradients are clipped
    after every micro-batch (so speed.workers and speed.micro_batch change the result), the learning
    rate comes a step late, the cosine starts at step 0. For Swin, SwinV2 and ViT."""


class Schedule(Section):
    length: Length = "800ep"
    """Length of the run: 100ep, 125000it or 1.28e8img."""
    warmup: Duration = "10ep"
    """Linear warm-up from `warmup_lr`."""
    warmup_lr: float = Field(0.0, ge=0.0)
    kind: Literal["cosine", "multistep", "step", "linear"] = "cosine"
    """`linear` ends at 1 % of the peak."""
    min_lr: float = Field(0.0, ge=0.0)
    """Where the cosine ends."""
    warmup_prefix: bool | None = None
    """Cosine: whether it starts where the warm-up ends (true) or at step 0 (false); when not given,
    false with optim.like_official, else true."""
    milestones: tuple[Duration, ...] = ("87.5%",)
    """Multistep: where the learning rate is multiplied by `gamma`."""
    step_every: Duration | None = None
    """Step: how often it is."""
    gamma: float = Field(0.1, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _kind_fits(self) -> Schedule:
        if self.kind == "step" and self.step_every is None:
            raise ValueError("kind=step needs step_every; write schedule.step_every=30ep")
        if self.kind != "step" and self.step_every is not None:
            raise ValueError(
                f"step_every={self.step_every} is of kind=step, not of {self.kind}; leave it out"
            )
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("kind=multistep needs milestones; write [87.5%]")
        if self.kind != "cosine" and self.warmup_prefix is not None:
            raise ValueError(f"warmup_prefix is of kind=cosine, not of {self.kind}; leave it out")
        return self


class Run(Section):
    name: str | None = Field(None, pattern=NAME)
    """Folder of the run; recipe name and digest when not given."""
    storage: Uri | None = None
    """Folder or URI of all runs; `runs` in the project's folder when not given."""
    tracking: Uri | None = None
    """MLflow's address; a sqlite file in the project's folder when not given, `off` for none."""
    experiment: str = "mimray"
    """MLflow's experiment."""
    seed: Seed = 0
    """Of the weights, the order, the crops and the masks."""
    validate_every: Duration = "5%"
    checkpoint_every: Duration = "1000it"
    keep: int = Field(2, ge=1)
    """Newest checkpoints that are kept; the one with the best validation loss is kept besides."""
    log_every: Duration = "10it"
    """A row in metrics.jsonl; it averages the steps since the row before."""
    restarts: int = Field(3, ge=0)
    """How often a group of workers that died is started again, without a new checkpoint in between,
    before the run fails."""

    @field_validator("tracking", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads a bare `off` as false


class Speed(Section):
    workers: int | tuple[int, int] = 1
    """Trainers, one a GPU. [least, most]: as many as the cluster has room for, more or fewer when it
    changes, at the same global batch."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: GPUs if the cluster has enough of them for all workers."""
    cpus_per_worker: float | None = Field(None, gt=0.0)
    """CPUs that Ray reserves for a trainer; the most that leaves the data a whole one when not
    given."""
    placement: Literal["spread", "pack"] = "spread"
    """Trainers on as many hosts as there are, or on as few."""
    micro_batch: int | None = Field(None, ge=1)
    """Pictures in one forward pass of one worker; at most batch / workers, and 128
    when not given."""
    loader: Literal["ray", "torch"] = "ray"
    """Ray Data, which decodes on every CPU of the cluster, or a torch DataLoader on the trainer's
    own host, to compare with."""
    loader_processes: int = Field(2, ge=0)
    """Processes of each trainer's torch DataLoader."""
    block_rows: int = Field(256, ge=1)
    """Pictures that one data task decodes."""
    cache_gib: float = Field(2.0, ge=0.0)
    """Row groups that a host keeps for all its data tasks; a shuffle window should fit twice."""
    prefetch: int = Field(2, ge=0)
    """Micro-batches that a worker holds ready."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several trainers share a model: each holds all of it (`ddp`) or a part (`fsdp`); `auto`
    shares models of 500 million parameters and more on GPUs."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile of each block; `auto`: on GPUs."""
    checkpoint_stages: tuple[int, ...] = ()
    """Stages of the encoder, 1 is the first, whose activations are computed again in the backward pass
    instead of kept: less memory, more time. A ViT is one stage."""

    @field_validator("workers", mode="before")
    @classmethod
    def _least_and_most(cls, workers: object) -> object:
        pair = workers if isinstance(workers, list | tuple) else (workers, workers)
        if len(pair) != 2 or not all(type(count) is int for count in pair):
            raise ValueError(f"{workers} is neither a count nor [least, most]; write 4 or [2, 8]")
        least, most = pair
        if least < 1:
            raise ValueError(f"{least} is too few; at least one trainer is needed")
        if least > most:
            raise ValueError(f"[{least}, {most}] is [least, most]; write [{most}, {least}]")
        return tuple(workers) if isinstance(workers, list | tuple) else workers

    @property
    def least_workers(self) -> int:
        """Trainers without which the run does not start."""
        return self.workers[0] if isinstance(self.workers, tuple) else self.workers

    @property
    def most_workers(self) -> int:
        """Trainers that are never exceeded."""
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers
